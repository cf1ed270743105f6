//! The tool, a small checkpoint and a few pictures.

#![allow(dead_code, reason = "not every test program uses all of it")]

use std::{
    path::Path,
    process::{Command, Output},
};

use image::{Rgb, RgbImage};
use serde_json::Value;
use tempfile::TempDir;

/// A place to work in.
pub struct Bench {
    folder: TempDir,
    /// A ViT with a head.
    pub checkpoint: String,
    /// A folder with six pictures in two folders, and a file that is none.
    pub images: String,
}

/// A checkpoint of the golden ones.
pub fn golden(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(name);
    folder.to_str().unwrap().into()
}

pub fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

pub fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

impl Bench {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let images = folder.path().join("images");
        for (at, name) in [
            "0/a.png", "0/b.png", "0/c.jpg", "1/a.png", "1/b.bmp", "1/c.webp",
        ]
        .iter()
        .enumerate()
        {
            let path = images.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            picture(at as u32).save(path).unwrap();
        }
        std::fs::write(images.join("README.txt"), "no image").unwrap();
        Self {
            images: images.to_str().unwrap().into(),
            checkpoint: golden("hf-vit"),
            folder,
        }
    }

    /// A path in the place to work in.
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().into()
    }

    pub fn picture(&self, name: &str) -> String {
        format!("{}/{name}", self.images)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_noisyquant"));
        command.args(arguments).current_dir(self.folder.path());
        command
    }

    /// What the tool prints, which it must without a word on stderr.
    pub fn succeed(&self, arguments: &[&str]) -> String {
        let Output {
            status,
            stdout,
            stderr,
        } = self.command(arguments).output().unwrap();
        let stderr = text(stderr);
        assert!(
            status.success() && stderr.is_empty(),
            "{arguments:?}: {status}, {stderr}"
        );
        text(stdout)
    }

    /// The one line that the tool fails with; it prints nothing else.
    pub fn fail(&self, arguments: &[&str]) -> String {
        let Output {
            status,
            stdout,
            stderr,
        } = self.command(arguments).output().unwrap();
        let stderr = text(stderr);
        assert_eq!(status.code(), Some(1), "{arguments:?}: {stderr}");
        assert!(stdout.is_empty(), "{arguments:?} printed {}", text(stdout));
        let (line, rest) = stderr.split_once('\n').unwrap();
        assert!(line.starts_with("error: ") && rest.is_empty(), "{stderr}");
        line.into()
    }

    pub fn quantize_arguments<'a>(&'a self, output: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let usual = [
            "quantize",
            &self.checkpoint,
            "--images",
            &self.images,
            "-o",
            output,
        ];
        [&usual, more].concat()
    }

    pub fn quantize(&self, output: &str, more: &[&str]) -> String {
        self.succeed(&self.quantize_arguments(output, more))
    }
}

/// Stripes and blobs, different for each seed.
fn picture(seed: u32) -> RgbImage {
    RgbImage::from_fn(61 + 7 * seed, 50, |x, y| {
        let wave = |rate: f32| 127.5 + 127.0 * ((x + seed * y) as f32 * rate).sin();
        Rgb([0.11, 0.23, 0.047].map(|rate| wave(rate * (1 + seed) as f32) as u8))
    })
}
