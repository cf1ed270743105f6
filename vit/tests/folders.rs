//! Folders as people have them: whose images are which class, and what is passed over.

mod tool;

use std::fs;

use serde_json::Value;
use tool::{Bench, json, text};

/// The pictures of the bench, each in the folder that `name` gives to the class that the float model finds in
/// it, so that the model is always right; and those folders.
fn sorted_by_class(bench: &Bench, name: impl Fn(usize) -> String) -> String {
    let folder = bench.path("classes");
    let _ = fs::remove_dir_all(&folder);
    for picture in [
        "0/a.png", "0/b.png", "0/c.jpg", "1/a.png", "1/b.bmp", "1/c.webp",
    ] {
        let path = bench.picture(picture);
        let run = bench.succeed(&["run", &bench.checkpoint, &path, "--top", "1", "--json"]);
        let class = json(&run)[0]["top"][0]["class"].as_u64().unwrap();
        let class = format!("{folder}/{}", name(class as usize));
        fs::create_dir_all(&class).unwrap();
        fs::copy(path, format!("{class}/{}", picture.replace('/', "-"))).unwrap();
    }
    folder
}

/// What `eval` prints as JSON, and on stderr.
fn eval(bench: &Bench, folder: &str, more: &[&str]) -> (Value, String) {
    let arguments = ["eval", &bench.checkpoint, "--images", folder, "--json"];
    let output = bench
        .command(&[&arguments, more].concat())
        .output()
        .unwrap();
    let error = text(output.stderr);
    assert!(output.status.success(), "{error}");
    (json(&text(output.stdout)), error)
}

/// All labels of the checkpoint.
fn labels(bench: &Bench) -> Vec<String> {
    let facts = json(&bench.succeed(&["inspect", &bench.checkpoint, "--json"]));
    let labels = facts["config"]["labels"].as_array().unwrap().iter();
    labels.map(|label| label.as_str().unwrap().into()).collect()
}

#[test]
fn names_that_are_numbers_or_labels_say_the_class() {
    let bench = Bench::new();
    let labels = labels(&bench);
    let names: [&dyn Fn(usize) -> String; 4] = [
        &|class| class.to_string(),
        &|class| format!("{class:04}"),
        &|class| labels[class].clone(),
        &|class| labels[class].to_uppercase(),
    ];
    for name in names {
        let folder = sorted_by_class(&bench, name);
        let (accuracy, warnings) = eval(&bench, &folder, &[]);
        assert_eq!(accuracy["top1_percent"], 100.0, "{accuracy}");
        assert_eq!((&accuracy["images"], &*warnings), (&6.into(), ""));
    }
    // Neither kind alone.
    let folder = sorted_by_class(&bench, |class| class.to_string());
    fs::create_dir(format!("{folder}/others")).unwrap();
    fs::copy(bench.picture("0/a.png"), format!("{folder}/others/a.png")).unwrap();
    let error = bench.fail(&["eval", &bench.checkpoint, "--images", &folder]);
    assert!(
        error.contains("`others`") && error.contains("--class-map"),
        "{error}"
    );
}

#[test]
fn other_names_are_classes_in_order_if_there_are_as_many() {
    let bench = Bench::new();
    let folder = sorted_by_class(&bench, |class| format!("n{class:08}"));
    let error = bench.fail(&["eval", &bench.checkpoint, "--images", &folder]);
    assert!(error.contains("11 folders with images"), "{error}");

    // The names that a map has.
    let map = bench.path("map.txt");
    let lines: Vec<String> = (0..11)
        .map(|class| format!("n{class:08} {class}\n"))
        .collect();
    fs::write(&map, lines.concat()).unwrap();
    let (accuracy, warnings) = eval(&bench, &folder, &["--class-map", &map]);
    assert_eq!((&accuracy["top1_percent"], &*warnings), (&100.0.into(), ""));
    fs::write(&map, "n00000000 11").unwrap();
    let error = bench.fail(&[
        "eval",
        &bench.checkpoint,
        "--images",
        &folder,
        "--class-map",
        &map,
    ]);
    assert!(
        error.contains("map.txt: expected class numbers below 11"),
        "{error}"
    );

    for class in 0..11 {
        let class = format!("{folder}/n{class:08}");
        if fs::create_dir(&class).is_ok() {
            // Without images: which of two such folders would be the class?
            let error = bench.fail(&["eval", &bench.checkpoint, "--images", &folder]);
            assert!(error.contains(&class[folder.len() + 1..]), "{error}");
            fs::copy(bench.picture("0/a.png"), format!("{class}/a.png")).unwrap();
        }
    }
    fs::create_dir(format!("{folder}/__MACOSX")).unwrap();
    fs::write(format!("{folder}/__MACOSX/._n00000000"), "\0").unwrap();
    let (accuracy, warnings) = eval(&bench, &folder, &[]);
    assert_eq!(accuracy["classes"], 11);
    for words in [
        "in this order: n00000000, n00000001",
        "without images: __MACOSX",
    ] {
        assert!(warnings.contains(words), "{words} is missing in {warnings}");
    }
    assert_eq!(
        accuracy["warnings"].as_array().unwrap().len(),
        warnings.lines().count()
    );
    let error = bench.fail(&["eval", &bench.checkpoint, "--images", &folder, "--strict"]);
    assert!(error.contains("--strict"), "{error}");
}

#[cfg(unix)]
#[test]
fn each_real_folder_is_read_once() {
    use std::os::unix::fs::symlink;
    let bench = Bench::new();
    for link in ["loop", "again", "0/up"] {
        let target = if link.contains('/') { ".." } else { "." };
        symlink(target, bench.picture(link)).unwrap();
    }
    symlink("0", bench.picture("00")).unwrap();
    symlink("nowhere.png", bench.picture("dangling.png")).unwrap();
    let output = bench
        .command(&bench.quantize_arguments("out", &["--rows", "64", "--json"]))
        .output()
        .unwrap();
    let (shown, warnings) = (json(&text(output.stdout)), text(output.stderr));
    assert_eq!(shown["images"], 6, "{warnings}");
    for words in [
        "passed over 4 links to folders that are read already: ",
        "passed over 1 link to nothing: dangling.png",
    ] {
        assert!(warnings.contains(words), "{words} is missing in {warnings}");
    }
    // They are kept in the file.
    let kept = json(&text(
        bench
            .command(&["inspect", "out", "--json"])
            .output()
            .unwrap()
            .stdout,
    ));
    assert_eq!(kept["warnings"].as_array().unwrap().len(), 2, "{kept}");
}

#[test]
fn what_is_passed_over_is_named() {
    let bench = Bench::new();
    fs::create_dir_all(bench.picture(".hidden/folder")).unwrap();
    fs::create_dir_all(bench.picture("empty/folder")).unwrap();
    for (from, to) in [
        ("0/a.png", ".b.png"),
        ("0/a.png", ".hidden/a.png"),
        ("0/a.png", "nameless"),
    ] {
        fs::copy(bench.picture(from), bench.picture(to)).unwrap();
    }
    fs::write(bench.picture("scan.TIFF"), "II*\0").unwrap();
    let arguments = bench.quantize_arguments("out", &["--rows", "64"]);
    let warnings = text(bench.command(&arguments).output().unwrap().stderr);
    for words in [
        "1 folder without images: empty\n",
        "1 hidden folder: .hidden\n",
        "1 hidden image: .b.png\n",
        "such a name: nameless, scan.TIFF\n",
    ] {
        assert!(warnings.contains(words), "{words} is missing in {warnings}");
    }
    assert_eq!(warnings.lines().count(), 4);
}

/// All that the headers tell is found before the work, and named; the rest can be skipped.
#[test]
fn images_that_cannot_be_used() {
    let bench = Bench::new();
    fs::write(bench.picture("1/x.png"), "no picture").unwrap();
    image::RgbImage::new(1, 60_000)
        .save(bench.picture("1/y.png"))
        .unwrap();
    let whole = fs::read(bench.picture("0/c.jpg")).unwrap();
    fs::write(bench.picture("1/z.jpg"), &whole[..whole.len() / 2]).unwrap();
    // Whole by its header.
    let picture = fs::read(bench.picture("0/a.png")).unwrap();
    fs::write(bench.picture("0/late.png"), &picture[..picture.len() / 2]).unwrap();
    let flags = ["--rows", "64", "--json"];
    let error = bench.fail(&bench.quantize_arguments("out", &flags));
    for words in ["1/x.png: ", "1/z.jpg: ", "truncated"] {
        assert!(error.contains(words), "{words} is missing in {error}");
    }
    assert!(!error.contains("late.png"), "{error}");
    let arguments = bench.quantize_arguments("out", &[&flags[..], &["--skip-bad-images"]].concat());
    let output = bench.command(&arguments).output().unwrap();
    let (shown, warnings) = (json(&text(output.stdout)), text(output.stderr));
    for words in ["1/x.png: ", "1/z.jpg: ", "0/late.png: "] {
        assert!(warnings.contains(words), "{words} is missing in {warnings}");
    }
    // The checkpoint's images are squeezed, so that a thin one is an image, too.
    assert_eq!((&shown["images"], warnings.lines().count()), (&7.into(), 3));
    let run = [
        "run",
        &bench.checkpoint,
        &bench.picture("0/a.png"),
        "--max-pixels",
        "99",
    ];
    let error = bench.fail(&run);
    assert!(
        error.contains("0/a.png: expected at most 99 pixels"),
        "{error}"
    );
}

/// `eval`, `compare` and `report` read folders the same way.
#[test]
fn photos_are_turned_unless_told_otherwise() {
    use image::{ImageEncoder, codecs::png::PngEncoder};
    let bench = Bench::new();
    let picture = image::open(bench.picture("0/b.png")).unwrap();
    let write = |name: &str, image: &image::DynamicImage, exif: &[u8]| {
        let mut encoder = PngEncoder::new(fs::File::create(bench.path(name)).unwrap());
        encoder.set_exif_metadata(exif.to_vec()).unwrap();
        let (width, height) = (image.width(), image.height());
        let color = image::ExtendedColorType::Rgb8;
        encoder
            .write_image(image.as_bytes(), width, height, color)
            .unwrap();
    };
    const TURN: &[u8] = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    write("sideways.png", &picture.rotate270(), TURN);
    write("stored.png", &picture.rotate270(), &TURN[..8]);
    let top = |path: &str, more: &[&str]| {
        let arguments = [&["run", &bench.checkpoint, path, "--json"], more].concat();
        json(&bench.succeed(&arguments))[0]["top"].clone()
    };
    let (sideways, stored) = (bench.path("sideways.png"), bench.path("stored.png"));
    assert_eq!(top(&sideways, &[]), top(&bench.picture("0/b.png"), &[]));
    assert_ne!(top(&sideways, &[]), top(&stored, &[]));
    assert_eq!(top(&sideways, &["--ignore-orientation"]), top(&stored, &[]));
}
