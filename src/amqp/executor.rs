//! Where everything of AMQP is decoded, copied and freed. `fe2o3-amqp` follows lists within lists by recursion, without a bound, and whoever can put
//! a message on a queue, or names a broker of their own, can nest them: on a thread with an ordinary stack a thousand levels end the
//! whole process. These threads have room for what fits into a message.

use std::io;
use std::sync::OnceLock;

use tokio::runtime::{Builder, Handle, Runtime};

/// A level takes 3 bytes of a message at least, and 3 KiB of stack at most: room for a message of 1 MiB, the largest that Azure
/// Service Bus takes unless it is told otherwise. The library gives nobody the bytes of a message before it has decoded them, so that
/// nothing here can refuse one for its depth: what the queue takes is the bound (docs/service-bus.md). It is address space, and memory only where somebody has nested so deep.
const STACK_BYTES: usize = 1 << 30;
const THREADS: usize = 2;
/// For names to be looked up by. They have as much room as the others, which is why there are few.
const BLOCKING_THREADS_MAX: usize = 2;

/// It lives as long as the process.
pub fn executor() -> io::Result<&'static Handle> {
    static EXECUTOR: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = EXECUTOR.get() {
        return Ok(runtime.handle());
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(THREADS)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_stack_size(STACK_BYTES)
        .thread_name("amqp")
        .enable_all()
        .build()?;
    if let Err(second) = EXECUTOR.set(runtime) {
        second.shutdown_background();
    }
    EXECUTOR.get().map(Runtime::handle).ok_or_else(|| io::Error::other("there are no threads for AMQP"))
}
