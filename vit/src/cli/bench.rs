//! `noisyquant bench`: how long a model takes for an image.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use noisyquant::{Executor, Isa};
use serde::Serialize;

use super::{
    contest::{contestant, race},
    failure::Failure,
    folder::{ImageFlags, Reader},
    model,
    overrides::OverrideFlags,
    print, progress,
    warner::Warner,
    widths::{self, Widths},
};
use crate::{
    measure::{
        bench::{FLOAT_BITS, Setting, Share, Timing},
        table::Table,
    },
    model::Model,
    store::OpenOptions,
    warning::Warnings,
};

/// Latency per image in f32 and with weights and activations of 8 to 4 bits, per instruction set
#[derive(Args)]
#[command(after_help = "\
A float checkpoint is quantized for the purpose, with a shift and a scale for each channel: W4A8 has weights \
of 4 bits and activations of 8. Given a folder with images, it is calibrated on every other one of up to 32, \
and `cosine` is the mean similarity of the features of the rest to those of f32. What `quantize` chooses \
takes longer and is nearer to f32. A quantized model is timed as it is. Times are medians of interleaved \
runs, of a batch divided by its images. With --json, one line for each with name, bits, noise, isa, batch, \
threads, med_ms, rounds and cosine, then one for each kind of operation with its share of the time, and \
`warnings` if there were any.

Examples:
  noisyquant bench checkpoint/ --images photos/
  noisyquant bench int8.safetensors --isa avx2,amx --batch 1 --threads 1
  noisyquant bench checkpoint/ --json | jq 'select(.batch == 1)'")]
pub(super) struct Arguments {
    /// A checkpoint or quantized model
    model: PathBuf,
    /// A folder with images; made-up ones if not given
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Instruction sets, with commas; all of this CPU but `scalar`, which takes very long, if not given
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = isa)]
    isa: Option<Vec<Isa>>,
    /// Images that run at once, with commas
    #[arg(
        long,
        value_name = "COUNTS",
        value_delimiter = ',',
        default_value = "1,8"
    )]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch: Vec<u16>,
    /// Threads, with commas; one and all if not given
    #[arg(long, value_name = "COUNTS", value_delimiter = ',')]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<Vec<u16>>,
    /// Seconds for each batch, number of threads and instruction set, at most; but three rounds at least
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// Print JSON, one line for each time
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reading: ImageFlags,
    #[command(flatten)]
    overrides: OverrideFlags,
}

/// The last line of JSON, where there were warnings.
#[derive(Serialize)]
struct Warned<'a> {
    warnings: &'a Warnings,
}

/// The name of an instruction set that this CPU has.
fn isa(name: &str) -> Result<Isa, String> {
    let names: Vec<&str> = Isa::available().map(Isa::name).collect();
    match Isa::from_name(name) {
        Some(isa) if isa.is_available() => Ok(isa),
        _ => Err(format!("expected some of {}", names.join(", "))),
    }
}

/// A length of time in seconds.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected 0 to 3600".into()),
    }
}

/// All that the CPU has but plain Rust, or that if there is no other.
pub(super) fn usual_isas() -> Vec<Isa> {
    let fast: Vec<Isa> = Isa::available().filter(|isa| *isa != Isa::Scalar).collect();
    if fast.is_empty() {
        vec![Isa::Scalar]
    } else {
        fast
    }
}

/// One and all, which may be the same.
pub(super) fn usual_threads() -> Vec<usize> {
    let mut threads = vec![1, Executor::rayon().threads()];
    threads.dedup();
    threads
}

pub(super) fn run(arguments: &Arguments, warner: &mut Warner) -> Result<(), Failure> {
    let options = arguments.overrides.options();
    let model = model::open(&arguments.model, &options, warner)?;
    let isas = arguments.isa.clone().unwrap_or_else(usual_isas);
    let batches: Vec<usize> = arguments
        .batch
        .iter()
        .map(|batch| (*batch).into())
        .collect();
    let threads = match &arguments.threads {
        Some(threads) => threads.iter().map(|threads| (*threads).into()).collect(),
        None => usual_threads(),
    };
    let most = batches.iter().copied().max().unwrap_or(1);
    let images = images(arguments, &model, most, warner)?;
    let limit = Duration::from_secs_f64(arguments.seconds);
    let mut settings = Vec::new();
    for &threads in &threads {
        settings.extend(batches.iter().map(|&batch| Setting {
            batch,
            threads,
            rounds: 1000,
            limit,
        }));
    }
    let bar = progress::bar(isas.len() * settings.len(), "");
    let (rows, shares) = match model.is_quantized() {
        true => {
            let open = |isa| {
                let options = OpenOptions {
                    isa: Some(isa),
                    ..options.clone()
                };
                Ok(vec![contestant(model::quantized(
                    &arguments.model,
                    &options,
                )?)])
            };
            race(None, &isas, open, &images.timed, &settings, &bar)?
        }
        false => {
            bar.set_message("quantizing");
            let widths = Widths::new(&model, &images.fitted, &images.judged)?;
            let open = |isa| widths.on(isa);
            race(Some(&model), &isas, open, &images.timed, &settings, &bar)?
        }
    };
    drop(bar);
    match arguments.json {
        true => {
            print::json_lines(&rows)?;
            print::json_lines(&shares)?;
            match warner.told() {
                told if told.is_empty() => Ok(()),
                told => print::json_lines(&[Warned { warnings: told }]),
            }
        }
        false => print::whole(&text(&rows, &shares)),
    }
}

/// Normalised images.
struct Images {
    /// As many as the largest batch has.
    timed: Vec<f32>,
    /// Those that models are calibrated on.
    fitted: Vec<f32>,
    /// Those that they are judged by.
    judged: Vec<f32>,
}

fn images(
    arguments: &Arguments,
    model: &Model,
    count: usize,
    warner: &mut Warner,
) -> Result<Images, Failure> {
    let config = model.config();
    let Some(folder) = &arguments.images else {
        // Without a pattern, and of the size that normalised numbers have.
        let wave = |at: usize| 2.0 * (at as f32 * 0.737).sin() * (at as f32 * 0.0013).cos();
        return Ok(Images {
            timed: (0..count * config.pixels()).map(wave).collect(),
            fitted: (0..config.pixels()).map(wave).collect(),
            judged: Vec::new(),
        });
    };
    let mut reader = Reader {
        flags: &arguments.reading,
        config,
        warner,
    };
    let paths = reader.images(folder)?;
    let most = count.max(2 * widths::IMAGES);
    let (_, input) = reader.load(&paths[..paths.len().min(most)])?;
    let (fitted, judged) = widths::halves(&input, config.pixels());
    let timed = input.into_iter().cycle().take(count * config.pixels());
    Ok(Images {
        timed: timed.collect(),
        fitted,
        judged,
    })
}

fn text(rows: &[Timing], shares: &[Share]) -> String {
    let head = [
        "model", "bias", "isa", "batch", "threads", "ms", "speed-up", "cosine", "rounds",
    ];
    let mut table = Table::new(&[head]);
    for row in rows {
        let same = |other: &&Timing| {
            other.bits == FLOAT_BITS && (other.batch, other.threads) == (row.batch, row.threads)
        };
        let float = rows.iter().find(same).map(|float| float.med_ms);
        table.push(vec![
            row.name.clone(),
            if row.noise { "yes" } else { "no" }.into(),
            row.isa.clone(),
            row.batch.to_string(),
            row.threads.to_string(),
            format!("{:.2}", row.med_ms),
            float.map_or(String::new(), |float| format!("{:.2}×", float / row.med_ms)),
            row.cosine
                .map_or(String::new(), |cosine| format!("{cosine:.4}")),
            row.rounds.to_string(),
        ]);
    }
    let mut text = format!("Median milliseconds per image; speed-up over f32.\n\n{table}");
    let mut last = None;
    for share in shares {
        if last != Some(share.threads) {
            let Share {
                name, isa, threads, ..
            } = share;
            text += &format!(
                "\nWhere the time goes: {name} on {isa}, one image, threads: {threads}\n\n"
            );
            last = Some(share.threads);
        }
        text += &format!("  {:5.1} %  {}\n", share.percent, share.operation);
    }
    if let Some(next) = shares
        .iter()
        .find(|share| !share.operation.starts_with("linear"))
    {
        text += &format!(
            "\nWhat to do next: of what is not a linear layer, {} takes most.\n",
            next.operation
        );
    }
    text
}
