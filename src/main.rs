//! The program `pintalk`: see `pintalk::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    pintalk::cli::run(std::env::args_os())
}
