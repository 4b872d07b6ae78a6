//! The `pintalk` binary. It runs the command-line interface of the `pintalk` library.

use std::process::ExitCode;

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    pintalk::cli::run(std::env::args_os())
}
