//! Every option on every layer of a file, judged on rows that were not used to choose.
//!
//! ```text
//! cargo run --release --example calibrate -- FILE.safetensors [--json] [--bits 8,6,4]
//!     [--options minmax,auto] [--layers NAME,...]
//! ```
//!
//! The file holds, per layer, `NAME.weight [out, in]`, `NAME.bias [out]`, `NAME.calibration [m, in]`
//! and `NAME.heldout [m', in]`, each f32, f16 or bf16. Printed are the held-out output MSE and the
//! worst token's relative error, both relative to symmetric min-max at the same bits; `--json` prints
//! one object per line instead. `OPTION+refine` is an option followed by a coordinate search.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use half::{bf16, f16};
use noisyquant::{Errors, QuantLinear, Recipe, Refine};
use safetensors::{Dtype, SafeTensors};

struct Layer {
    name: String,
    shape: [usize; 2],
    weight: Vec<f32>,
    bias: Vec<f32>,
    calibration: Vec<f32>,
    heldout: Vec<f32>,
    /// Outputs of the float layer on `heldout`.
    target: Vec<f32>,
}

/// Every option on every layer of a file, judged on rows that were not used to choose.
#[derive(Parser)]
struct Arguments {
    /// safetensors file of layers.
    file: PathBuf,
    /// Print one JSON object per layer, bits and option.
    #[arg(long)]
    json: bool,
    /// Bits of weights and activations.
    #[arg(long, value_delimiter = ',', default_values_t = [8, 6, 4])]
    #[arg(value_parser = clap::value_parser!(u32).range(2..=8))]
    bits: Vec<u32>,
    /// Options, all if not given.
    #[arg(long, value_delimiter = ',', default_values_t = options())]
    options: Vec<String>,
    /// Layers, all if not given.
    #[arg(long, value_delimiter = ',')]
    layers: Vec<String>,
}

fn main() {
    if let Err(error) = run(&Arguments::parse()) {
        eprintln!("calibrate: {error}");
        std::process::exit(1);
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let bytes = std::fs::read(&arguments.file)
        .map_err(|error| format!("{}: {error}", arguments.file.display()))?;
    let file = SafeTensors::deserialize(&bytes)?;
    let names: BTreeSet<&str> = file
        .names()
        .into_iter()
        .filter_map(|name| name.strip_suffix(".weight"))
        .collect();
    let mut means: Vec<(String, Vec<[f64; 2]>)> = Vec::new();
    for name in names {
        if !arguments.layers.is_empty() && !arguments.layers.iter().any(|l| l == name) {
            continue;
        }
        let layer = Layer::read(&file, name)?;
        for bits in &arguments.bits {
            let plain = &Recipe::named()[0].1;
            let reference = layer.judge(&layer.builder(*bits).recipe(plain.clone()).build()?);
            for option in &arguments.options {
                let start = Instant::now();
                let (built, choice) = layer.build(*bits, option)?;
                let seconds = start.elapsed().as_secs_f64();
                let errors = layer.judge(&built);
                let relative = [
                    errors.mse / reference.mse,
                    errors.worst_token / reference.worst_token,
                ];
                report(arguments, &layer, *bits, option, relative, seconds, &choice);
                let key = format!("W{bits}A{bits} {option}");
                match means.iter_mut().find(|(name, _)| *name == key) {
                    Some((_, values)) => values.push(relative),
                    None => means.push((key, vec![relative])),
                }
            }
        }
    }
    if !arguments.json {
        println!("\ngeometric means over layers: MSE, worst token (largest of each)");
        for (key, values) in means {
            let mean = |i: usize| {
                let logs = values.iter().map(|v| v[i].ln()).sum::<f64>();
                (logs / values.len() as f64).exp()
            };
            let most = |i: usize| values.iter().fold(0f64, |m, v| m.max(v[i]));
            println!(
                "{key:24} {:7.3} {:7.3}   ({:.3} {:.3})",
                mean(0),
                mean(1),
                most(0),
                most(1)
            );
        }
    }
    Ok(())
}

fn report(
    arguments: &Arguments,
    layer: &Layer,
    bits: u32,
    option: &str,
    [mse, worst_token]: [f64; 2],
    seconds: f64,
    choice: &str,
) {
    if arguments.json {
        let line = serde_json::json!({
            "layer": layer.name,
            "weight_bits": bits,
            "activation_bits": bits,
            "option": option,
            "relative_mse": mse,
            "relative_worst_token": worst_token,
            "seconds": seconds,
        });
        println!("{line}");
    } else {
        let Layer { name, .. } = layer;
        println!(
            "{name:14} W{bits}A{bits} {option:16} {mse:7.3} {worst_token:7.3} {seconds:7.3} s {choice}"
        );
    }
}

impl Layer {
    fn read(file: &SafeTensors<'_>, name: &str) -> Result<Layer, Box<dyn Error>> {
        let tensor = |part: &str| floats(file, &format!("{name}.{part}"));
        let (weight, shape) = tensor("weight")?;
        let [n, k] = shape[..] else {
            return Err(format!("{name}.weight: expected [out, in], got {shape:?}").into());
        };
        let (bias, calibration, heldout) =
            (tensor("bias")?, tensor("calibration")?, tensor("heldout")?);
        for (part, shape) in [("calibration", calibration.1), ("heldout", heldout.1)] {
            if shape.len() != 2 || shape[1] != k {
                return Err(format!("{name}.{part}: expected [rows, {k}], got {shape:?}").into());
            }
        }
        if bias.0.len() != n {
            return Err(format!("{name}.bias: expected {n} values, got {}", bias.0.len()).into());
        }
        let mut layer = Layer {
            name: name.to_string(),
            shape: [n, k],
            weight,
            bias: bias.0,
            calibration: calibration.0,
            heldout: heldout.0,
            target: Vec::new(),
        };
        layer.target = layer.float_outputs();
        Ok(layer)
    }

    fn builder(&self, bits: u32) -> noisyquant::Builder<'_> {
        QuantLinear::builder(&self.weight, self.shape[0], self.shape[1])
            .bias(&self.bias)
            .weight_bits(bits)
            .activation_bits(bits)
            .calibration_rows(&self.calibration)
    }

    /// The layer of an option, and a word on what was chosen.
    fn build(&self, bits: u32, option: &str) -> Result<(QuantLinear, String), Box<dyn Error>> {
        let (base, refined) = match option.strip_suffix("+refine") {
            Some(base) => (base, true),
            None => (option, false),
        };
        let mut choice = String::new();
        let recipe = if base == "auto" {
            let (layer, outcome) = self.builder(bits).build_auto()?;
            choice = serde_json::to_string(&outcome.recipe)?;
            if !refined {
                return Ok((layer, choice));
            }
            outcome.recipe
        } else {
            let named = Recipe::named();
            let Some((_, recipe)) = named.into_iter().find(|(name, _)| *name == base) else {
                let expected = options();
                return Err(format!("option: expected one of {expected:?}, got {option}").into());
            };
            recipe
        };
        let refine = refined.then_some(Refine {
            sweeps: 4,
            scales: true,
        });
        let recipe = Recipe { refine, ..recipe };
        Ok((self.builder(bits).recipe(recipe).build()?, choice))
    }

    fn judge(&self, layer: &QuantLinear) -> Errors {
        let y = layer.forward(&self.heldout).expect("whole rows");
        Errors::measure(&y, &self.target, self.shape[0])
    }

    /// The float layer on the held-out rows, in f64.
    fn float_outputs(&self) -> Vec<f32> {
        let k = self.shape[1];
        let mut y = Vec::with_capacity(self.heldout.len() / k * self.shape[0]);
        for x in self.heldout.chunks_exact(k) {
            for (w, b) in self.weight.chunks_exact(k).zip(&self.bias) {
                let mut lanes = [0f64; 4];
                for (x, w) in x.chunks(4).zip(w.chunks(4)) {
                    for (lane, (x, w)) in lanes.iter_mut().zip(x.iter().zip(w)) {
                        *lane += f64::from(*x) * f64::from(*w);
                    }
                }
                y.push((lanes.iter().sum::<f64>() + f64::from(*b)) as f32);
            }
        }
        y
    }
}

/// A tensor as f32, and its shape.
fn floats(file: &SafeTensors<'_>, name: &str) -> Result<(Vec<f32>, Vec<usize>), Box<dyn Error>> {
    let tensor = file.tensor(name)?;
    let data = tensor.data();
    let pairs = || data.chunks_exact(2).map(|b| [b[0], b[1]]);
    let values = match tensor.dtype() {
        Dtype::F16 => pairs().map(|b| f16::from_le_bytes(b).to_f32()).collect(),
        Dtype::BF16 => pairs().map(|b| bf16::from_le_bytes(b).to_f32()).collect(),
        Dtype::F32 => {
            let words = data.chunks_exact(4);
            words
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect()
        }
        other => return Err(format!("{name}: expected F32, F16 or BF16, got {other:?}").into()),
    };
    Ok((values, tensor.shape().to_vec()))
}

fn options() -> Vec<String> {
    let named = Recipe::named()
        .into_iter()
        .map(|(name, _)| name.to_string());
    named.chain(["auto".to_string()]).collect()
}
