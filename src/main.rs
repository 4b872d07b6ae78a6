//! The `pintalk` binary. It runs the command-line interface of the `pintalk` library.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    pintalk::cli::run(std::env::args_os())
}
