//! Photos become the numbers that Pillow and `transformers` make of them.

use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};
use noisyquant_vit::{
    Interpolation, Preprocess,
    photo::{self, PhotoError},
};

/// The picture of `data/pillow.py`.
fn picture() -> RgbImage {
    RgbImage::from_fn(61, 45, |x, y| {
        let [red, green, blue] = [
            x * 37 + y * 11,
            (x * x + 3 * y * y) / 7,
            (x / 5 + y / 4) % 2 * 255,
        ];
        Rgb([red, green, blue].map(|value| (value % 256) as u8))
    })
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

fn preprocess() -> Preprocess {
    Preprocess {
        resize: 20,
        keep_aspect: true,
        border: false,
        half_to_even: false,
        crop: 16,
        interpolation: Interpolation::Bicubic,
        rescale: 1.0 / 255.0,
        mean: vec![0.485, 0.456, 0.406],
        std: vec![0.229, 0.224, 0.225],
    }
}

#[test]
fn resizing_is_pillows() {
    let filters = [
        ("bilinear", Interpolation::Bilinear),
        ("bicubic", Interpolation::Bicubic),
        ("lanczos", Interpolation::Lanczos),
    ];
    for (filter, interpolation) in filters {
        for (size, height, width) in [("smaller", 20, 27), ("larger", 60, 81)] {
            let name = format!("pillow-{filter}-{size}.png");
            let expected = photo::decode(&data(&name)).unwrap();
            let got = photo::resize(&picture(), height, width, interpolation);
            assert_eq!(got.dimensions(), expected.dimensions(), "{name}");
            let pairs = got.iter().zip(expected.iter());
            let different = pairs
                .clone()
                .filter(|(got, expected)| got != expected)
                .count();
            let most = pairs.map(|(got, expected)| got.abs_diff(*expected)).max();
            let share = different as f64 / got.len() as f64;
            println!(
                "{name}: {:.3} % of bytes differ, at most by {most:?}",
                100.0 * share
            );
            assert!(most <= Some(1), "{name}: a byte is off by {most:?}");
            assert!(share <= 0.02, "{name}: {different} bytes of {}", got.len());
        }
    }
}

/// `shortest_edge`: 20 / 45 of 61 is 27.1 columns; the crop starts at (20 − 16) / 2 and (27 − 16) / 2.
#[test]
fn the_centre_is_cut_out_and_normalised() {
    let resized = photo::resize(&picture(), 20, 27, Interpolation::Bicubic);
    let input = photo::prepare(&picture(), &preprocess(), 3).unwrap();
    assert_eq!(input.len(), 3 * 16 * 16);
    let expected = |channel: usize, y: u32, x: u32| {
        let byte = f64::from(resized.get_pixel(5 + x, 2 + y).0[channel]);
        (byte / 255.0 - [0.485, 0.456, 0.406][channel]) / [0.229, 0.224, 0.225][channel]
    };
    for (at, got) in input.iter().enumerate() {
        let expected = expected(at / 256, (at / 16 % 16) as u32, (at % 16) as u32);
        assert!(
            (f64::from(*got) - expected).abs() < 1e-5,
            "{at}: {got}, {expected}"
        );
    }
    // Upright photos keep their shape too.
    let upright = RgbImage::from_fn(45, 61, |x, y| *picture().get_pixel(y, x));
    let turned = photo::prepare(&upright, &preprocess(), 3).unwrap();
    let close = |a: &f32, b: &f32| (a - b).abs() < 0.02;
    assert!((0..256).all(|at| close(&turned[at % 16 * 16 + at / 16], &input[at])));
}

#[test]
fn both_sides_may_be_given_and_grey_is_weighed() {
    let squeezed = Preprocess {
        keep_aspect: false,
        ..preprocess()
    };
    let resized = photo::resize(&picture(), 20, 20, Interpolation::Bicubic);
    let input = photo::prepare(&picture(), &squeezed, 3).unwrap();
    let byte = f32::from(resized.get_pixel(2, 2).0[0]);
    assert!((input[0] - (byte / 255.0 - 0.485) / 0.229).abs() < 1e-5);

    let grey = Preprocess {
        mean: vec![0.0],
        std: vec![1.0],
        rescale: 1.0,
        ..squeezed
    };
    let red = RgbImage::from_pixel(50, 50, Rgb([200, 100, 50]));
    // Pillow: Image.new("RGB", (1, 1), (200, 100, 50)).convert("L").getpixel((0, 0)) is 124.
    assert_eq!(photo::prepare(&red, &grey, 1).unwrap(), [124.0; 256]);
}

#[test]
fn what_is_no_photo_is_refused() {
    let unreadable = |path: &Path| match photo::load(path, &preprocess(), 3) {
        Err(error @ PhotoError::Unreadable { .. }) => {
            let text = error.to_string();
            assert!(text.contains(&path.display().to_string()), "{text}");
            assert!(!text.contains('\n'), "{text}");
        }
        other => panic!("{other:?}"),
    };
    unreadable(&data("none.png"));
    unreadable(&data("pillow.py"));
    unreadable(&data("")); // a folder
    let folder = tempfile::tempdir().unwrap();
    let cut = folder.path().join("cut.png");
    let whole = std::fs::read(data("pillow-bicubic-larger.png")).unwrap();
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    unreadable(&cut);

    let too_small = Preprocess {
        resize: 15,
        ..preprocess()
    };
    let error = photo::prepare(&picture(), &too_small, 3);
    assert!(
        matches!(error, Err(PhotoError::TooSmall { height: 15, .. })),
        "{error:?}"
    );
    for channels in [0, 1, 4] {
        let error = photo::prepare(&picture(), &preprocess(), channels);
        assert!(
            matches!(error, Err(PhotoError::Channels { .. })),
            "{error:?}"
        );
    }
    let thin = RgbImage::new(1, 4000);
    assert!(photo::prepare(&thin, &preprocess(), 3).is_ok());
    let enormous = Preprocess {
        resize: 2000,
        ..preprocess()
    };
    let error = photo::prepare(&thin, &enormous, 3);
    assert!(
        matches!(error, Err(PhotoError::TooLarge { width: 2000, .. })),
        "{error:?}"
    );
}
