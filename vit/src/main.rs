//! The `noisyquant` command.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    noisyquant_vit::cli::main()
}
