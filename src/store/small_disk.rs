//! For tests: a small file system that can be filled. It is in memory, and gone with the test, however that ends.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

/// What a write is at least rounded up to.
const PAGE: usize = 4096;

/// Mounted in a name space that only `holder` is in, and seen from here by way of it. It ends when its input does.
pub struct SmallDisk {
    holder: Child,
    _input: Option<ChildStdin>,
    root: PathBuf,
}

impl SmallDisk {
    pub fn new(mib: usize) -> Self {
        let script = format!("mount -t tmpfs -o size={mib}m small /mnt && echo mounted && exec cat");
        // Those who are not root are, in a name space of their own, where the kernel lets them.
        let mut holder = Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare (util-linux) cannot be started");
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(
            said, "mounted\n",
            "a test of a full disk mounts a file system of its own: run it as root (with CAP_SYS_ADMIN), or where user name \
             spaces are allowed (`unshare --map-root-user --mount true` must work)"
        );
        let root = PathBuf::from(format!("/proc/{}/root/mnt", holder.id()));
        Self { _input: holder.stdin.take(), holder, root }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Leaves so many bytes.
    pub fn fill(&self, left: usize) {
        let mut ballast = File::create(self.ballast()).unwrap();
        let full = loop {
            if let Err(error) = ballast.write_all(&[7; PAGE]) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
        let size = ballast.metadata().unwrap().len();
        ballast.set_len(size.saturating_sub(left as u64)).unwrap();
    }

    pub fn make_space(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.root.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
