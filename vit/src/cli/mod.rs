//! The `noisyquant` command: one module for each subcommand.

mod bench;
mod class_map;
mod classes;
mod compare;
mod contest;
mod eval;
mod failure;
mod folder;
mod inspect;
mod memory;
mod model;
mod output;
mod overrides;
mod plan;
#[cfg(not(unix))]
#[path = "platform_other.rs"]
mod platform;
#[cfg(unix)]
#[path = "platform_unix.rs"]
mod platform;
mod print;
mod progress;
mod quantize;
mod report;
mod run;
#[cfg(not(unix))]
#[path = "signals_other.rs"]
mod signals;
#[cfg(unix)]
#[path = "signals_unix.rs"]
mod signals;
mod threads;
#[cfg(target_os = "linux")]
#[path = "unnamed_linux.rs"]
mod unnamed;
#[cfg(not(target_os = "linux"))]
#[path = "unnamed_other.rs"]
mod unnamed;
mod walk;
mod warner;
mod widths;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use crate::measure::demo;
use failure::Failure;
use warner::Warner;

/// Vision transformers on int8 and int6 kernels, with NoisyQuant's noise built in.
///
/// Takes a ViT, DeiT, DINOv2 or Swin checkpoint of timm or Hugging Face and a folder of images; makes
/// an int8 or int6 model of it, and says what that gains and costs.
#[derive(Parser)]
#[command(
    name = "noisyquant",
    version,
    after_help = "\
Examples:
  noisyquant demo
  noisyquant inspect model.safetensors
  noisyquant quantize checkpoint/ --images photos/ -o int8.safetensors
  noisyquant compare checkpoint/ int8.safetensors --images other-photos/
  noisyquant report checkpoint/ int8.safetensors --images other-photos/ -o report.html

What a checkpoint does not say is guessed and told on stderr, in a line that begins with `warning:`; --json \
has it under `warnings`, and a quantized file keeps it. With --strict it is a failure.

Exit status: 0 done, 1 failed with one line on stderr, 2 wrong usage."
)]
struct Cli {
    /// Fail where something had to be guessed or was passed over, instead of warning of it on stderr
    #[arg(long, global = true)]
    strict: bool,
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
    Inspect(inspect::Arguments),
    Quantize(quantize::Arguments),
    Run(run::Arguments),
    Eval(eval::Arguments),
    Compare(compare::Arguments),
    Bench(bench::Arguments),
    Report(report::Arguments),
}

/// Run the command that the program's arguments ask for.
pub fn main() -> ExitCode {
    signals::fail_on_abort();
    let Cli { strict, command } = Cli::parse();
    let mut warner = Warner::new(strict);
    let warner = &mut warner;
    let started = match command {
        Command::Inspect(_) => Ok(()), // computes nothing
        _ => threads::start(warner),
    };
    let done = started.and_then(|()| match command {
        Command::Demo { json, options } => run_demo(&options, json),
        Command::Inspect(arguments) => inspect::run(&arguments, warner),
        Command::Quantize(arguments) => quantize::run(&arguments, warner),
        Command::Run(arguments) => run::run(&arguments, warner),
        Command::Eval(arguments) => eval::run(&arguments, warner),
        Command::Compare(arguments) => compare::run(&arguments, warner),
        Command::Bench(arguments) => bench::run(&arguments, warner),
        Command::Report(arguments) => report::run(&arguments, warner),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, whatever a library put into its message.
            let text = error.to_string();
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            // Nobody may be listening.
            let _ = writeln!(io::stderr(), "error: {}", lines.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn run_demo(options: &demo::Options, json: bool) -> Result<(), Failure> {
    let bar = progress::bar(0, "");
    let report = demo::run(options, &bar)?;
    match json {
        true => print::json_document(&report),
        false => print::whole(&report.to_string()),
    }
}
