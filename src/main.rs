//! The `pintalk` binary; see `pintalk::cli`.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    pintalk::cli::run(std::env::args_os())
}
