//! What a server's processes have used: from `/proc`.

use std::time::Duration;

use anyhow::Context;

/// The unit of the times in `/proc/PID/stat`, whatever the kernel's own is.
const TICKS_PER_SECOND: u64 = 100;

/// A process and its children.
#[derive(Clone, Copy)]
pub struct Server {
    pub pid: u32,
}

impl Server {
    pub fn cpu(self) -> anyhow::Result<Duration> {
        let mut ticks = 0;
        for pid in self.pids()? {
            let stat = read(&format!("/proc/{pid}/stat"))?;
            // The name of the program is in brackets and may hold anything.
            let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
            let times: Vec<u64> = fields.skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
            anyhow::ensure!(times.len() == 2, "/proc/{pid}/stat is not as expected: {stat}");
            ticks += times.iter().sum::<u64>();
        }
        Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
    }

    /// `VmRSS` of all of them: pages that several share are counted in each.
    pub fn resident_kib(self) -> anyhow::Result<u64> {
        let mut kib = 0;
        for pid in self.pids()? {
            let status = read(&format!("/proc/{pid}/status"))?;
            let field = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let number = field.and_then(|field| field.split_whitespace().next()?.parse::<u64>().ok());
            kib += number.with_context(|| format!("/proc/{pid}/status has no VmRSS"))?;
        }
        Ok(kib)
    }

    fn pids(self) -> anyhow::Result<Vec<u32>> {
        let pid = self.pid;
        let children = read(&format!("/proc/{pid}/task/{pid}/children"))?;
        Ok(std::iter::once(pid).chain(children.split_whitespace().filter_map(|child| child.parse().ok())).collect())
    }
}

fn read(path: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {path}: is the server still there?"))
}
