//! The log on this machine's disk, for one process.
