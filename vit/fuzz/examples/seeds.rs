//! Writes what fuzzing starts from into `corpus`: what the golden checkpoints and a few pictures hold.
//!
//!     cargo run --example seeds

#[path = "../fuzz_targets/models.rs"]
mod models;

use std::error::Error;
use std::fs;
use std::path::Path;

use image::{ImageFormat, Rgb, RgbImage};
use models::GOLDEN;

/// What timm writes beside a checkpoint; the golden ones have none.
const TIMM: &str = r#"{"architecture": "KIND_small_patch16_224", "num_classes": 11,
"model_args": {"img_size": 40},
"pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "crop_pct": 0.9, "crop_mode": "center",
"interpolation": "bicubic", "input_size": [3, 40, 40], "label_names": {"0": "hen", "2": "pelican"}}}"#;

fn write(target: &str, name: &str, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    fs::create_dir_all(&folder)?;
    Ok(fs::write(folder.join(name), bytes)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    for (which, name) in (0u8..).zip(GOLDEN) {
        let file = models::golden(name);
        let (header, _) = models::parts(&file);
        write("checkpoint", name, &[&[which], header].concat())?;
        let mut texts = vec![which];
        let beside = fs::read(models::folder(name).join("config.json"));
        let kind = name.trim_start_matches("timm-");
        texts.extend(beside.unwrap_or(TIMM.replace("KIND", kind).into()));
        if let Ok(text) = fs::read(models::folder(name).join("preprocessor_config.json")) {
            texts.push(0);
            texts.extend(text);
        }
        write("configuration", name, &texts)?;
    }
    let file = models::quantized();
    let (header, _) = models::parts(&file);
    write("quantized", "plain", &[&[0], header].concat())?;
    write("quantized", "changed", &[&[1; 9], header].concat())?;
    let picture = RgbImage::from_fn(23, 17, |x, y| {
        Rgb([9 * x as u8, 11 * y as u8, (x * y) as u8])
    });
    for format in [
        ImageFormat::Bmp,
        ImageFormat::Gif,
        ImageFormat::Jpeg,
        ImageFormat::Png,
        ImageFormat::WebP,
    ] {
        let mut bytes = std::io::Cursor::new(vec![30, 20, 0]);
        bytes.set_position(3);
        picture.write_to(&mut bytes, format)?;
        write("image", format.extensions_str()[0], bytes.get_ref())?;
    }
    Ok(())
}
