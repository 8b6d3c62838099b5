//! A child process that can be killed, frozen and started again, and that is started again when it ends by itself, as any
//! service manager would. Signals go to its own pid and to nobody else's.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;

/// A process that was asked to stop and does not is killed after this long: more than the services' drain.
const STOP_MAX: Duration = Duration::from_secs(30);
/// A process that ended by itself is started again after this long.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// The simulator takes any.
const STRIPE_KEY: &str = "sk_test_chaos";
/// Characters of the last line of a log.
const SHOWN_MAX: usize = 300;

pub struct Process {
    pub name: String,
    program: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    child: Option<Child>,
    /// Somebody wants it to run.
    wanted: bool,
    ended: Option<Instant>,
    exits: Vec<Exit>,
    /// How long its log was when it was started last.
    logged: usize,
    /// The run is over: it never starts again.
    over: bool,
}

/// It ended, and nobody had ended it.
#[derive(Clone, Debug)]
pub struct Exit {
    /// It had not come so far that it listened.
    pub starting: bool,
    pub text: String,
}

impl Process {
    pub fn new(name: &str, program: &Path, args: Vec<String>, logs: &Path) -> Self {
        let log = logs.join(format!("{name}.log"));
        Self { name: name.to_owned(), program: program.to_owned(), args, log, state: Mutex::default() }
    }

    pub fn start(&self) -> anyhow::Result<()> {
        let mut state = self.state();
        state.wanted = !state.over;
        if state.wanted && state.child.is_none() {
            state.logged = self.log().len();
            state.child = Some(self.spawn()?);
        }
        Ok(())
    }

    /// kill -9.
    pub fn kill(&self) {
        let mut state = self.state();
        state.wanted = false;
        if let Some(mut child) = state.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// kill -9, for good.
    pub fn end(&self) {
        self.state().over = true;
        self.kill();
    }

    /// SIGTERM, and waits for the end. Answers whether it came by itself.
    pub fn stop(&self) -> bool {
        let mut state = self.state();
        state.wanted = false;
        let Some(mut child) = state.child.take() else { return true };
        signal(child.id(), "-CONT");
        signal(child.id(), "-TERM");
        let deadline = Instant::now() + STOP_MAX;
        while Instant::now() < deadline {
            if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(child.kill());
        drop(child.wait());
        false
    }

    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    /// Starts it again if it ended by itself.
    pub fn supervise(&self) {
        let mut state = self.state();
        if let Some(Ok(Some(status))) = state.child.as_mut().map(Child::try_wait) {
            state.child = None;
            state.ended = Some(Instant::now());
            let said = self.log();
            let said = said.get(state.logged..).unwrap_or_default();
            let last: String = said.lines().next_back().unwrap_or_default().chars().take(SHOWN_MAX).collect();
            let text = format!("{}: {status}: {last}", self.name);
            state.exits.push(Exit { starting: !said.contains("listening on"), text });
        }
        let due = state.ended.is_none_or(|ended| ended.elapsed() >= RESTART_AFTER);
        if state.wanted && state.child.is_none() && due {
            state.logged = self.log().len();
            state.child = self.spawn().ok();
        }
    }

    /// Each time that it ended though nobody had ended it, and the last that it said.
    pub fn exits(&self) -> Vec<Exit> {
        self.state().exits.clone()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn spawn(&self) -> anyhow::Result<Child> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let errors: File = log.try_clone()?;
        Command::new(&self.program)
            .args(&self.args)
            .env("PAYLOG_STRIPE_SECRET_KEY", STRIPE_KEY)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("cannot start {}", self.name))
    }

    fn signal(&self, name: &str) {
        if let Some(child) = &self.state().child {
            signal(child.id(), name);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whatever happens, nothing is left behind.
impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

pub fn signal(pid: u32, name: &str) {
    drop(Command::new("kill").args([name, &pid.to_string()]).stderr(Stdio::null()).status());
}

/// Ports on 127.0.0.1 that are free now, all different.
pub fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    let held: Vec<_> = (0..N).map(|_| std::net::TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}
