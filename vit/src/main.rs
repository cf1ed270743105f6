//! The `noisyquant` command.

#![forbid(unsafe_code)]

use std::{
    error::Error,
    io::{ErrorKind, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use noisyquant_vit::demo;

/// Vision transformers on int8 and int6 kernels, with NoisyQuant's noise built in.
#[derive(Parser)]
#[command(name = "noisyquant", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Quantize the embedded digit classifier; measure accuracy, latency and overhead of the noise
    ///
    /// The model, 500 test images and 64 calibration images are part of the program. Every figure
    /// is computed in the run, which takes less than a minute. A progress bar is shown on stderr if
    /// that is a terminal.
    Demo {
        /// Print the figures as JSON instead of tables
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        options: demo::Options,
    },
}

fn run_demo(options: &demo::Options, json: bool) -> Result<(), Box<dyn Error>> {
    let progress = ProgressBar::new(0);
    progress.set_style(ProgressStyle::with_template(
        "{bar:24} {pos}/{len} {wide_msg}",
    )?);
    let report = demo::run(options, &progress)?;
    let text = match json {
        true => serde_json::to_string_pretty(&report)? + "\n",
        false => report.to_string(),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        // A reader like `head` that has seen enough is no failure.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Demo { json, options } => run_demo(&options, json),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
