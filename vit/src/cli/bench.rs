//! `noisyquant bench`: how long a model takes for an image.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use indicatif::ProgressBar;
use noisyquant::{Executor, Isa, Noise, Quantizer};
use serde::Serialize;

use super::{
    failure::Failure,
    folder::{ImageFlags, Reader},
    model,
    overrides::OverrideFlags,
    print, progress,
    warner::Warner,
};
use crate::{
    measure::{
        bench::{self, Contestant, FLOAT_BITS, Setting, Share, Timing},
        table::Table,
    },
    model::{Layer, Model, Workspace},
    ops::{Linear, float_kernel},
    quantize::{Calibration, LayerPlan},
    store::OpenOptions,
    warning::Warnings,
};

/// Rows that layers are calibrated on: their time does not depend on what is in them.
const ROWS: usize = 64;
/// Nor does it depend on how wide the noise is, so none is searched for.
const NOISE_RANGE: f32 = 0.01;

/// Latency per image in f32, int8 and int6, plain and noisy, per instruction set
#[derive(Args)]
#[command(after_help = "\
A float checkpoint is quantized for the purpose, with ranges that are good enough for timing; a quantized \
model is timed as it is. Times are medians of interleaved runs, of a batch divided by its images. With \
--json, one line for each with name, bits, noise, isa, batch, threads, med_ms and rounds, then one for each \
kind of operation with its share of the time, and `warnings` if there were any.

Examples:
  noisyquant bench checkpoint/
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
            race(None, &isas, open, &images, &settings, &bar)?
        }
        false => {
            let calibration = calibrate(&model, &images)?;
            let open = |isa| quantizations(&model, &calibration, isa);
            race(Some(&model), &isas, open, &images, &settings, &bar)?
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

/// A model and what its rows say of it.
pub(super) struct Entry {
    name: String,
    bits: u32,
    noise: bool,
    isa: String,
    model: Model,
}

/// What to call a quantized model as it is.
pub(super) fn contestant(model: Model) -> Entry {
    let quantized = |layer: &Layer| match &layer.linear {
        Linear::Quantized(linear) => Some(linear.clone()),
        Linear::Float(_) => None,
    };
    let layers: Vec<_> = model.layers().iter().filter_map(quantized).collect();
    let bits = |layer: &noisyquant::QuantLinear| (layer.weight_bits(), layer.activation_bits());
    let first = layers.first();
    let uniform = layers
        .iter()
        .all(|layer| Some(bits(layer)) == first.map(bits));
    Entry {
        name: match first.map(bits) {
            Some((weights, activations)) if uniform => format!("W{weights}A{activations}"),
            _ => "mixed".into(),
        },
        bits: layers
            .iter()
            .map(|layer| bits(layer).0.max(bits(layer).1))
            .max()
            .unwrap_or(0),
        noise: layers
            .iter()
            .any(|layer| layer.noise().iter().any(|bias| *bias != 0.0)),
        isa: first.map_or(String::new(), |layer| layer.isa().to_string()),
        model,
    }
}

/// int8 and int6, plain and noisy.
fn quantizations(
    float: &Model,
    calibration: &Calibration,
    isa: Isa,
) -> Result<Vec<Entry>, Failure> {
    let mut entries = Vec::new();
    for (name, bits) in [("int8", 8), ("int6", 6)] {
        for noise in [
            Noise::None,
            Noise::Uniform {
                range: NOISE_RANGE,
                seed: 0,
            },
        ] {
            let noisy = noise != Noise::None;
            let plan = LayerPlan::new(bits)
                .with(Quantizer::default(), noise)
                .on(isa);
            let (model, _) = float.quantize(&|_| plan.clone(), calibration, &|_| ())?;
            let (name, isa) = (name.into(), isa.to_string());
            entries.push(Entry {
                name,
                bits,
                noise: noisy,
                isa,
                model,
            });
        }
    }
    Ok(entries)
}

/// Time `float` and what `open` gives for each instruction set, in each of the settings; and where the
/// time goes in the first of the last set's models, in each setting of one image at a time.
pub(super) fn race(
    float: Option<&Model>,
    isas: &[Isa],
    open: impl Fn(Isa) -> Result<Vec<Entry>, Failure>,
    images: &[f32],
    settings: &[Setting],
    bar: &ProgressBar,
) -> Result<(Vec<Timing>, Vec<Share>), Failure> {
    let (mut rows, mut shares) = (Vec::new(), Vec::new());
    for (at, &isa) in isas.iter().enumerate() {
        bar.set_message(format!("preparing {isa}"));
        let entries = open(isa)?;
        let quantized = entries.iter().map(
            |Entry {
                 name,
                 bits,
                 noise,
                 isa,
                 model,
             }| Contestant {
                name: name.clone(),
                bits: *bits,
                noise: *noise,
                isa: isa.clone(),
                model,
            },
        );
        let float = float.map(|model| Contestant {
            name: "f32".into(),
            bits: FLOAT_BITS,
            noise: false,
            isa: float_kernel(),
            model,
        });
        let contestants: Vec<Contestant<'_>> = float.into_iter().chain(quantized).collect();
        for setting in settings {
            let Setting { batch, threads, .. } = setting;
            bar.set_message(format!("timing {isa}, batch {batch}, {threads} threads"));
            rows.extend(bench::time(&contestants, images, *setting)?);
            let fastest = at + 1 == isas.len();
            let quantized = contestants
                .iter()
                .find(|contestant| contestant.bits != FLOAT_BITS);
            if let (true, 1, Some(contestant)) = (fastest, setting.batch, quantized) {
                shares.extend(bench::shares(contestant, images, *setting)?);
            }
            bar.inc(1);
        }
    }
    Ok((bench::merge(rows), shares))
}

/// Enough normalised images for the largest batch.
fn images(
    arguments: &Arguments,
    model: &Model,
    count: usize,
    warner: &mut Warner,
) -> Result<Vec<f32>, Failure> {
    let config = model.config();
    let Some(folder) = &arguments.images else {
        // Without a pattern, and of the size that normalised numbers have.
        let wave = |at: usize| 2.0 * (at as f32 * 0.737).sin() * (at as f32 * 0.0013).cos();
        return Ok((0..count * config.pixels()).map(wave).collect());
    };
    let mut reader = Reader {
        flags: &arguments.reading,
        config,
        warner,
    };
    let paths = reader.images(folder)?;
    let (_, input) = reader.load(&paths[..paths.len().min(count)])?;
    let numbers = count * config.pixels();
    Ok(input.into_iter().cycle().take(numbers).collect())
}

fn calibrate(model: &Model, images: &[f32]) -> Result<Calibration, Failure> {
    let mut calibration = Calibration::new(model, ROWS, 0)?;
    let first = &images[..model.config().pixels()];
    calibration.observe(model, first, &mut Workspace::new(model, 1))?;
    Ok(calibration)
}

fn text(rows: &[Timing], shares: &[Share]) -> String {
    let head = [
        "model", "noise", "isa", "batch", "threads", "ms", "speed-up", "rounds",
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
