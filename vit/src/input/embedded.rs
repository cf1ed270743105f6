//! A small vision transformer for handwritten digits and the images to calibrate and judge it with.
//!
//! `vit/assets/README.md` names their source, licences and split; `vit/train/` makes them.

use super::images::Images;
use crate::error::Error;

/// The weights, f16: 28×28 pixels, patches of 4×4, width 64, 6 blocks of 4 heads.
pub const WEIGHTS: &[u8] = include_bytes!("../../assets/vit-mnist.safetensors");

const TEST: &[u8] = include_bytes!("../../assets/mnist-test.safetensors");
const CALIBRATION: &[u8] = include_bytes!("../../assets/mnist-calibration.safetensors");

/// 500 images, 50 of each digit, that neither training nor calibration has seen.
///
/// # Errors
///
/// None in practice: the file is part of the program.
pub fn test() -> Result<Images, Error> {
    Images::from_safetensors(TEST)
}

/// 64 images of the training split, to calibrate with.
///
/// # Errors
///
/// None in practice: the file is part of the program.
pub fn calibration() -> Result<Images, Error> {
    Images::from_safetensors(CALIBRATION)
}
