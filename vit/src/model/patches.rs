//! Images as rows of pixels, one for each patch: what the patch embedding multiplies.

use crate::config::Config;

/// Each patch as a row `[channels, patch, patch]`, patches from left to right and top to bottom.
pub(super) fn cut(config: &Config, images: &[f32], rows: &mut [f32]) {
    let (size, patch, grid) = (config.image_size, config.patch_size(), config.grid());
    let (image_pixels, row_length) = (config.pixels(), config.patch_features());
    for (image, rows) in images
        .chunks_exact(image_pixels)
        .zip(rows.chunks_exact_mut(image_pixels))
    {
        for (at, row) in rows.chunks_exact_mut(row_length).enumerate() {
            let corner = at / grid * patch * size + at % grid * patch;
            for (line, to) in row.chunks_exact_mut(patch).enumerate() {
                let from = line / patch * size * size + corner + line % patch * size;
                to.copy_from_slice(&image[from..from + patch]);
            }
        }
    }
}
