//! Where everything of AMQP is decoded. `fe2o3-amqp` follows lists within lists by recursion, without a bound, and whoever can put
//! a message on a queue, or names a broker of their own, can nest them: on a thread with an ordinary stack a thousand levels end the
//! whole process. These threads have room for what fits into a message.

use std::io;
use std::sync::OnceLock;

use tokio::runtime::{Builder, Handle, Runtime};

/// A level takes 3 bytes of a message at least, and 3 KiB of stack at most: room for a message of 1 MiB, the largest that Azure
/// Service Bus takes unless it is told otherwise. It is address space, and memory only where somebody has nested so deep.
const STACK_BYTES: usize = 1 << 30;
const THREADS: usize = 2;

/// It lives as long as the process.
pub fn executor() -> io::Result<&'static Handle> {
    static EXECUTOR: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = EXECUTOR.get() {
        return Ok(runtime.handle());
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_stack_size(STACK_BYTES)
        .thread_name("amqp")
        .enable_all()
        .build()?;
    if let Err(second) = EXECUTOR.set(runtime) {
        second.shutdown_background();
    }
    EXECUTOR.get().map(Runtime::handle).ok_or_else(|| io::Error::other("there are no threads for AMQP"))
}
