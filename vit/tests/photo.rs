//! Photos become the numbers that Pillow and `transformers` make of them.

use std::path::{Path, PathBuf};

use image::{
    DynamicImage, GrayImage, ImageEncoder, Rgb, RgbImage, codecs::jpeg::JpegEncoder,
    codecs::png::PngEncoder, metadata::Orientation,
};
use noisyquant_vit::{
    Interpolation, Preprocess,
    photo::{self, Options, PhotoError},
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
            let expected = photo::decode(&data(&name), &Options::default()).unwrap();
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
    let unreadable = |path: &Path| match photo::load(path, &preprocess(), 3, &Options::default()) {
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

/// Rows that are converted by themselves are what the image library makes of the whole.
#[test]
fn pngs_of_all_kinds_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture.png");
    let colour = DynamicImage::from(picture());
    let alpha = DynamicImage::from(image::RgbaImage::from_fn(61, 45, |x, y| {
        let [red, green, blue] = picture().get_pixel(x, y).0;
        image::Rgba([red, green, blue, (3 * x + y) as u8])
    }));
    let wide = DynamicImage::from(image::ImageBuffer::from_fn(61, 45, |x, y| {
        Rgb([x * 1075, y * 1489, x * y * 23].map(|value| value as u16))
    }));
    for image in [
        colour.clone(),
        alpha.clone(),
        wide.clone(),
        colour.to_luma8().into(),
        alpha.to_luma_alpha8().into(),
        wide.to_luma16().into(),
        wide.to_luma_alpha16().into(),
        wide.to_rgba16().into(),
    ] {
        image.save(&path).unwrap();
        let got = photo::decode(&path, &Options::default()).unwrap();
        assert!(got == image.to_rgb8(), "{:?}", image.color());
    }
}

/// Exif of one entry, in either order of bytes.
fn exif(orientation: u8, big: bool) -> Vec<u8> {
    match big {
        true => [
            b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".as_slice(),
            &[orientation],
            &[0; 6],
        ]
        .concat(),
        false => {
            let start = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".as_slice();
            [start, &[orientation], &[0; 7]].concat()
        }
    }
}

#[test]
fn photos_are_turned_as_their_exif_says() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Options::default();
    let [mut stored, mut turned] = [plain; 2];
    (stored.turn, turned.turn) = (false, true);
    for orientation in 0..10 {
        for (name, big) in [("a.jpg", true), ("b.jpg", false), ("c.png", true)] {
            let path = folder.path().join(name);
            let mut file = std::fs::File::create(&path).unwrap();
            let exif = exif(orientation, big);
            let color = image::ExtendedColorType::Rgb8;
            let picture = picture();
            if name.ends_with("jpg") {
                let mut encoder = JpegEncoder::new(&mut file);
                encoder.set_exif_metadata(exif).unwrap();
                encoder.write_image(&picture, 61, 45, color).unwrap();
            } else {
                let mut encoder = PngEncoder::new(&mut file);
                encoder.set_exif_metadata(exif).unwrap();
                encoder.write_image(&picture, 61, 45, color).unwrap();
            }
            let stored = photo::decode(&path, &stored).unwrap();
            assert_eq!(stored.dimensions(), (61, 45));
            let mut expected = DynamicImage::from(stored);
            // What is no orientation turns nothing.
            if let Some(orientation) = Orientation::from_exif(orientation) {
                expected.apply_orientation(orientation);
            }
            let got = photo::decode(&path, &turned).unwrap();
            assert!(got == expected.to_rgb8(), "{name}, {orientation}");
        }
    }
    assert!(plain.turn, "turned unless told otherwise");
}

#[test]
fn a_jpeg_that_ends_early_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.jpg");
    let mut whole = Vec::new();
    let grey = GrayImage::from_fn(200, 200, |x, y| image::Luma([(x * y) as u8]));
    grey.write_with_encoder(JpegEncoder::new(&mut whole))
        .unwrap();
    std::fs::write(&path, &whole).unwrap();
    photo::load(&path, &preprocess(), 3, &Options::default()).unwrap();
    for length in [whole.len() / 2, whole.len() * 9 / 10, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        for done in [
            photo::load(&path, &preprocess(), 3, &Options::default()).map(|_| ()),
            photo::check(&path, &preprocess(), 3, &Options::default()),
        ] {
            let error = done.unwrap_err().to_string();
            let [words, name] = ["truncated", "cut.jpg"];
            assert!(error.contains(words) && error.contains(name), "{error}");
        }
    }
}

#[test]
fn sizes_are_checked_by_the_header() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture.png");
    picture().save(&path).unwrap();
    // The end is missing, which the header does not tell.
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let check = |preprocess: &Preprocess, channels, options: &Options| {
        let checked = photo::check(&path, preprocess, channels, options);
        checked.map_err(|error| error.to_string())
    };
    let usual = Options::default();
    assert_eq!(check(&preprocess(), 3, &usual), Ok(()));
    let mut few = usual;
    few.max_pixels = 61 * 45;
    assert_eq!(check(&preprocess(), 3, &few), Ok(()));
    few.max_pixels -= 1;
    let small = Preprocess {
        resize: 15,
        ..preprocess()
    };
    for (done, words) in [
        (
            check(&preprocess(), 3, &few),
            "at most 2744 pixels (--max-pixels), got 61×45",
        ),
        (
            check(&small, 3, &usual),
            "at least 16×16 pixels to crop, got 20×15",
        ),
        (check(&preprocess(), 1, &usual), "expected 1 or 3"),
    ] {
        let error = done.unwrap_err();
        let start = format!("image {}: ", path.display());
        assert!(
            error.starts_with(&start) && error.contains(words),
            "{error}"
        );
    }
}
