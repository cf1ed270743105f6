//! Our f32 features next to those that `vit/convert/features.py` took from onnxruntime, or our logits next to
//! those that `vit/convert/torchvision_models.py` took from torchvision; fails where they differ by more than
//! a thousandth for the same input. `own input` is a photo as this package decodes and resizes it: JPEG
//! decoders differ by a level here and there, and features by up to a hundredth.
//!
//! ```text
//! cargo run --release -p noisyquant-vit --example features -- \
//!     /tmp/vits14 /tmp/vits14/features.safetensors PHOTOS
//! cargo run --release -p noisyquant-vit --example features -- \
//!     /tmp/swin_t /tmp/swin_t/logits.safetensors PHOTOS
//! ```

use std::{error::Error, fs, path::PathBuf, process::ExitCode};

use clap::Parser;
use noisyquant_vit::{Model, OpenOptions, Output, Workspace, photo};
use safetensors::SafeTensors;

/// Largest difference, relative to the largest feature or logit of a photo.
const TOLERANCE: f32 = 1e-3;

/// Compares the features or logits of a checkpoint with stored ones.
#[derive(Parser)]
struct Options {
    /// The float checkpoint.
    checkpoint: PathBuf,
    /// What the script wrote: `images`, and `features` or `logits`.
    expected: PathBuf,
    /// The folder of photos that it read, to be decoded and resized here too.
    photos: Option<PathBuf>,
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Result<Vec<f32>, Box<dyn Error>> {
    let (numbers, _) = file.tensor(name)?.data().as_chunks();
    Ok(numbers
        .iter()
        .map(|&four| f32::from_le_bytes(four))
        .collect())
}

fn difference(got: &[f32], expected: &[f32]) -> f32 {
    let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
    let pairs = got.iter().zip(expected);
    pairs.fold(0f32, |most, (a, b)| most.max((a - b).abs())) / largest
}

/// The largest difference for the same input.
fn run(options: &Options) -> Result<f32, Box<dyn Error>> {
    let model = Model::open(&options.checkpoint, &OpenOptions::default())?;
    let config = model.config();
    let bytes = fs::read(&options.expected)?;
    let (_, header) = SafeTensors::read_metadata(&bytes)?;
    let names = header
        .metadata()
        .as_ref()
        .and_then(|data| data.get("files"));
    let names: Vec<String> =
        serde_json::from_str(names.ok_or("no list of files in the metadata")?)?;
    let file = SafeTensors::deserialize(&bytes)?;
    let logits = file.tensor("logits").is_ok();
    let (what, each) = match logits {
        true => ("logits", config.classes),
        false => ("features", config.features()),
    };
    let (images, expected) = (floats(&file, "images")?, floats(&file, what)?);
    if each == 0 || expected.len() != names.len() * each {
        return Err(format!("{what} of another model").into());
    }
    let mut workspace = Workspace::new(&model, 1);
    let mut forward = |image: &[f32]| -> Result<Vec<f32>, noisyquant_vit::Error> {
        let mut found = vec![0.0; each];
        let mut output = match logits {
            true => Output::logits(&mut found),
            false => Output::features(&mut found),
        };
        model.forward(image, &mut output, &mut workspace)?;
        Ok(found)
    };
    let mut most = 0f32;
    println!("{:>12} {:>12}", "same input", "own input");
    let stored = images.chunks(config.pixels()).zip(expected.chunks(each));
    for (name, (image, expected)) in names.iter().zip(stored) {
        let same = difference(&forward(image)?, expected);
        most = most.max(same);
        print!("{same:>12.1e} ");
        if let Some(folder) = &options.photos {
            let image = photo::load(
                &folder.join(name),
                &config.preprocess,
                config.channels,
                &photo::Options::default(),
            )?;
            print!("{:>12.1e} ", difference(&forward(&image)?, expected));
        }
        println!(" {name}");
    }
    Ok(most)
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(most) if most <= TOLERANCE => ExitCode::SUCCESS,
        Ok(most) => {
            eprintln!("features: they differ by {most:.1e}, more than {TOLERANCE:.0e}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("features: {error}");
            ExitCode::FAILURE
        }
    }
}
