//! What goes wrong gives one line and leaves nothing half done.

mod tool;

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use tool::{Bench, golden, json, text};

/// Files in the place to work in, but the pictures.
fn files(bench: &Bench) -> Vec<String> {
    let entries = fs::read_dir(bench.path("")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "images").collect()
}

#[test]
fn a_truncated_checkpoint() {
    let bench = Bench::new();
    let whole = fs::read(Path::new(&bench.checkpoint).join("model.safetensors")).unwrap();
    for length in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        let cut = bench.path("cut.safetensors");
        fs::write(&cut, &whole[..length]).unwrap();
        for command in [
            &["inspect", &cut][..],
            &["quantize", &cut, "--images", &bench.images, "-o", "out"],
            &["bench", &cut],
        ] {
            let error = bench.fail(command);
            assert!(error.contains("cut.safetensors"), "{error}");
        }
        fs::remove_file(cut).unwrap();
        assert_eq!(files(&bench), [""; 0], "{length} bytes");
    }
    let error = bench.fail(&["inspect", "nowhere"]);
    assert!(
        error.contains("nowhere") && error.contains("No such file"),
        "{error}"
    );
}

/// A pipe is read to its end, and one that nobody may ever write to is not waited for.
#[cfg(unix)]
#[test]
fn pipes_as_a_checkpoint() {
    let bench = Bench::new();
    let model = Path::new(&bench.checkpoint).join("model.safetensors");
    let mut bare = bench.command(&["inspect", "/dev/stdin", "--json"]);
    let mut child = bare
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let whole = fs::read(&model).unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &whole).unwrap();
    let piped = child.wait_with_output().unwrap();
    assert!(piped.status.success());
    fs::write(bench.path("same.safetensors"), &whole).unwrap();
    let mut bare = bench.command(&["inspect", "same.safetensors", "--json"]);
    let from_file = bare.stderr(Stdio::null()).output().unwrap();
    let layers = |printed: Vec<u8>| json(&text(printed))["layers"].clone();
    assert_eq!(layers(piped.stdout), layers(from_file.stdout));

    let pipe = bench.path("pipe.safetensors");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let folder = bench.path("folder");
    fs::create_dir(&folder).unwrap();
    let within = format!("{folder}/model.safetensors");
    assert!(
        Command::new("mkfifo")
            .arg(within)
            .status()
            .unwrap()
            .success()
    );
    for (path, got) in [
        (&*pipe, "a named pipe"),
        (&*folder, "a named pipe"),
        ("/dev/zero", "a device"),
    ] {
        let error = bench.fail(&["inspect", path]);
        assert!(error.contains(got), "{error}");
    }
}

#[test]
fn a_wrong_architecture_or_pair() {
    let bench = Bench::new();
    let file = bench.path("other.safetensors");
    let tensor =
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2], &[0; 8]).unwrap();
    safetensors::serialize_to_file([("conv1.weight", tensor)], None, file.as_ref()).unwrap();
    let error = bench.fail(&["quantize", &file, "--images", &bench.images, "-o", "out"]);
    assert!(
        error.contains("expected a ViT, DeiT, DINOv2 or Swin"),
        "{error}"
    );
    fs::remove_file(file).unwrap();

    bench.quantize("int8", &["--rows", "64"]);
    let images = ["--images", bench.images.as_str()];
    let error = bench.fail(&[&["compare", &golden("hf-dinov2"), "int8"], &images[..]].concat());
    assert!(
        error.contains("expected a quantization of this model"),
        "{error}"
    );
    let error = bench.fail(
        &[
            &["compare", &bench.checkpoint, &bench.checkpoint],
            &images[..],
        ]
        .concat(),
    );
    assert!(error.contains("expected a quantized model"), "{error}");
    let page = ["-o", "page.html"];
    let error = bench.fail(&[&["report", "int8", "int8"], &images[..], &page[..]].concat());
    assert!(error.contains("expected a float checkpoint"), "{error}");
    assert_eq!(files(&bench), ["int8"]);
}

/// Outputs that overflow have no error that a report could tell.
#[test]
fn a_head_whose_outputs_overflow() {
    let bench = Bench::new();
    let folder = Path::new(&bench.checkpoint);
    let whole = fs::read(folder.join("model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&whole).unwrap();
    let tensors = file.tensors().into_iter().map(|(name, view)| {
        let mut bytes = view.data().to_vec();
        if name == "classifier.weight" {
            let (sign, huge) = (1 << 31, 3e38f32.to_bits());
            for (at, four) in bytes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                *four = (huge | (sign * (at as u32 % 2))).to_le_bytes();
            }
        }
        (name, view.dtype(), view.shape().to_vec(), bytes)
    });
    let tensors: Vec<_> = tensors.collect();
    let views = tensors.iter().map(|(name, number, shape, bytes)| {
        let view = safetensors::tensor::TensorView::new(*number, shape.clone(), bytes).unwrap();
        (name, view)
    });
    let huge = bench.path("huge");
    fs::create_dir(&huge).unwrap();
    for name in ["config.json", "preprocessor_config.json"] {
        fs::copy(folder.join(name), format!("{huge}/{name}")).unwrap();
    }
    let path = format!("{huge}/model.safetensors");
    safetensors::serialize_to_file(views, None, path.as_ref()).unwrap();
    for bias in ["none", "auto"] {
        fs::write(bench.path("out"), "before").unwrap();
        let arguments = [
            "--images",
            &bench.images,
            "-o",
            "out",
            "--bias",
            bias,
            "--rows",
            "64",
        ];
        bench.fail(&[&["quantize", &huge], &arguments[..]].concat());
        assert_eq!(fs::read(bench.path("out")).unwrap(), b"before", "{bias}");
    }
}

#[test]
fn an_unreadable_image_in_the_folder() {
    let bench = Bench::new();
    bench.quantize("int8", &["--rows", "64"]);
    let bad = bench.picture("1/bad.jpg");
    fs::write(&bad, "this is no picture").unwrap();
    let images = ["--images", bench.images.as_str()];
    for command in [
        &["quantize", &bench.checkpoint, "-o", "out"][..],
        &["compare", &bench.checkpoint, "int8"],
        &["eval", &bench.checkpoint],
        &["report", &bench.checkpoint, "int8", "-o", "page.html"],
    ] {
        let error = bench.fail(&[command, &images[..]].concat());
        assert!(error.contains(&bad), "{error}");
        assert_eq!(files(&bench), ["int8"]);
    }
    let error = bench.fail(&["run", &bench.checkpoint, &bench.picture("0/a.png"), &bad]);
    assert!(error.contains(&bad), "{error}");
    let empty = bench.path("");
    let error = bench.fail(&[
        "quantize",
        &bench.checkpoint,
        "--images",
        &format!("{empty}/none"),
        "-o",
        "out",
    ]);
    assert!(
        error.contains("none: expected a folder that can be read"),
        "{error}"
    );
}

#[test]
fn one_image_for_a_head_to_choose_by() {
    let bench = Bench::new();
    let folder = bench.path("one");
    fs::create_dir(&folder).unwrap();
    fs::copy(bench.picture("0/a.png"), format!("{folder}/a.png")).unwrap();
    let quantize = [
        "quantize",
        &bench.checkpoint,
        "--images",
        &folder,
        "-o",
        "out",
    ];
    let error = bench.fail(&quantize);
    let expected = "one: expected at least 2 images for the automatic choice for the head, got 1";
    assert!(error.contains(expected), "{error}");
    bench.succeed(&[&quantize[..], &["--bias", "noise"]].concat());
}

#[test]
fn an_output_that_cannot_be_written() {
    let bench = Bench::new();
    for (output, words) in [
        ("nowhere/out", "No such file"),
        ("images", "got a folder"),
        #[cfg(target_os = "linux")]
        ("/dev/full", "No space left on device"),
    ] {
        let error = bench.fail(&bench.quantize_arguments(output, &["--rows", "64"]));
        assert!(error.contains(output) && error.contains(words), "{error}");
    }
    assert_eq!(files(&bench), [""; 0]);
    #[cfg(target_os = "linux")]
    {
        let mut command = bench.command(&["inspect", &bench.checkpoint]);
        let output = command
            .stdout(fs::File::create("/dev/full").unwrap())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(text(output.stderr).starts_with("error: standard output"));
    }
}

/// A limit on the size of files stands for a full disk: writing begins and then fails.
#[cfg(unix)]
#[test]
fn a_disk_that_becomes_full() {
    let bench = Bench::new();
    let old = "what was there before";
    fs::write(bench.path("out"), old).unwrap();
    let arguments = bench.quantize_arguments("out", &["--rows", "64"]);
    let output = Command::new("sh")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_noisyquant"),
        ])
        .args(&arguments)
        .current_dir(bench.path(""))
        .output()
        .unwrap();
    let error = text(output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.starts_with("error: ") && error.contains("File too large"),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1);
    assert_eq!(files(&bench), ["out"]);
    assert_eq!(fs::read_to_string(bench.path("out")).unwrap(), old);
}

/// Arguments of a command that takes long, for there are many tokens.
fn long(bench: &Bench) -> Vec<&str> {
    bench.quantize_arguments("out", &["--image-size", "800"])
}

/// Start `command`, wait until it has something to write to, send it `signal`, and wait for its end; or
/// kill it, if it goes on, and say so.
#[cfg(unix)]
fn interrupted(mut command: Command, signal: &str) -> Option<Output> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let id = child.id();
    let send = |signal: &str| {
        let mut kill = Command::new("kill");
        let sent = kill.args(["-s", signal, &id.to_string()]).status();
        assert!(sent.unwrap().success());
    };
    std::thread::sleep(Duration::from_secs(1));
    send(signal);
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > Duration::from_secs(2) {
            send("KILL");
            child.wait().unwrap();
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Some(child.wait_with_output().unwrap())
}

#[cfg(unix)]
#[test]
fn an_interrupt() {
    let bench = Bench::new();
    for signal in ["INT", "TERM", "HUP"] {
        let output = interrupted(bench.command(&long(&bench)), signal).expect("it goes on");
        let status = output.status.code();
        assert_eq!(status, Some(130), "{signal}: {}", text(output.stderr));
        assert_eq!(files(&bench), [""; 0], "{signal}");
    }
}

/// What cannot be noticed leaves nothing either, where files can be without a name.
#[cfg(target_os = "linux")]
#[test]
fn a_kill() {
    let bench = Bench::new();
    let output = interrupted(bench.command(&long(&bench)), "KILL").expect("it goes on");
    assert_eq!(output.status.code(), None);
    assert_eq!(files(&bench), [""; 0]);
}

/// `nohup`, and what a shell does with interrupts of what runs in the background.
#[cfg(target_os = "linux")]
#[test]
fn what_is_to_be_ignored_is_ignored() {
    let bench = Bench::new();
    for (ignored, sent) in [("HUP", "HUP"), ("INT", "INT"), ("HUP", "INT")] {
        let mut command = Command::new("sh");
        let script = format!("trap '' {ignored}; exec \"$0\" \"$@\"");
        command
            .args(["-c", &script, env!("CARGO_BIN_EXE_noisyquant")])
            .args(long(&bench))
            .current_dir(bench.path(""));
        let ended = interrupted(command, sent).is_some();
        assert_eq!(ended, ignored != sent, "{ignored} ignored, {sent} sent");
        assert_eq!(files(&bench), [""; 0]);
    }
}

/// Not replaced by another file, and readable by whom the umask lets.
#[cfg(unix)]
#[test]
fn an_output_behind_a_link() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    fs::write(bench.path("real"), "old").unwrap();
    std::os::unix::fs::symlink("real", bench.path("link")).unwrap();
    bench.quantize("link", &["--rows", "64"]);
    assert!(
        fs::symlink_metadata(bench.path("link"))
            .unwrap()
            .is_symlink()
    );
    assert!(bench.succeed(&["inspect", "real"]).contains("quantized"));
    fs::write(bench.path("plain"), "").unwrap();
    let mode = |name: &str| fs::metadata(bench.path(name)).unwrap().permissions().mode();
    assert_eq!(mode("real"), mode("plain"));
}

/// A file keeps its permissions where another replaces it.
#[cfg(unix)]
#[test]
fn an_output_that_was_there_before() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    for mode in [0o600, 0o640, 0o444] {
        fs::write(bench.path("out"), "old").unwrap();
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(bench.path("out"), permissions).unwrap();
        bench.quantize("out", &["--rows", "64"]);
        let got = fs::metadata(bench.path("out"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(got & 0o7777, mode);
        assert!(bench.succeed(&["inspect", "out"]).contains("quantized"));
        fs::remove_file(bench.path("out")).unwrap();
    }
}

/// A link to what is not there yet says where the file is to be.
#[cfg(unix)]
#[test]
fn an_output_behind_a_dangling_link() {
    use std::os::unix::fs::symlink;
    let bench = Bench::new();
    fs::create_dir(bench.path("folder")).unwrap();
    symlink("folder/second", bench.path("first")).unwrap();
    symlink("real", bench.path("folder/second")).unwrap();
    bench.quantize("first", &["--rows", "64"]);
    for link in ["first", "folder/second"] {
        let metadata = fs::symlink_metadata(bench.path(link)).unwrap();
        assert!(metadata.is_symlink(), "{link}");
    }
    let shown = bench.succeed(&["inspect", "folder/real"]);
    assert!(shown.contains("quantized"), "{shown}");

    symlink("self", bench.path("self")).unwrap();
    let error = bench.fail(&bench.quantize_arguments("self", &[]));
    assert!(error.contains("self: expected to write"), "{error}");
}

/// Nobody reads it, and so it would be waited for.
#[cfg(unix)]
#[test]
fn a_pipe_as_output() {
    let bench = Bench::new();
    let made = Command::new("mkfifo").arg(bench.path("out")).status();
    assert!(made.unwrap().success());
    let error = bench.fail(&bench.quantize_arguments("out", &[]));
    assert!(error.contains("out: expected to write"), "{error}");
    assert!(error.contains("a pipe that nobody reads"), "{error}");
}

/// A file that is mounted alone cannot be replaced, but written to.
#[cfg(target_os = "linux")]
#[test]
fn an_output_that_is_mounted() {
    let bench = Bench::new();
    for name in ["out", "source"] {
        fs::write(bench.path(name), "x".repeat(1 << 20)).unwrap();
    }
    let script = "mount --bind source out && exec \"$0\" \"$@\"";
    let output = Command::new("unshare")
        .args(["-rm", "sh", "-c", script, env!("CARGO_BIN_EXE_noisyquant")])
        .args(bench.quantize_arguments("out", &["--rows", "64"]))
        .current_dir(bench.path(""))
        .output()
        .unwrap();
    let (error, shown) = (text(output.stderr), text(output.stdout));
    if ["unshare:", "mount:"]
        .iter()
        .any(|tool| error.contains(tool))
    {
        println!("not tested, as nothing can be mounted here: {error}");
        return;
    }
    assert!(output.status.success() && error.is_empty(), "{error}");
    assert!(shown.contains("out: "), "{shown}");
    assert!(bench.succeed(&["inspect", "source"]).contains("quantized"));
    assert_eq!(files(&bench).len(), 2);
}

/// The result of the work is left where it can be if its folder is gone at the end.
#[cfg(target_os = "linux")]
#[test]
fn an_output_whose_folder_goes_away() {
    let bench = Bench::new();
    let folder = bench.path("folder");
    let rescue = bench.path("rescue");
    for folder in [&folder, &rescue] {
        fs::create_dir(folder).unwrap();
    }
    let output = bench.path("folder/out");
    let mut command = bench.command(&bench.quantize_arguments(&output, &["--image-size", "200"]));
    let child = command
        .env("TMPDIR", &rescue)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    fs::remove_dir(&folder).unwrap();
    let output = child.wait_with_output().unwrap();
    let error = text(output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    let (_, place) = error.trim().split_once("the result is in ").unwrap();
    assert!(place.starts_with(&rescue), "{error}");
    assert!(bench.succeed(&["inspect", place]).contains("quantized"));
}

#[cfg(target_os = "linux")]
#[test]
fn errors_that_nobody_can_read() {
    let bench = Bench::new();
    let full = || fs::File::create("/dev/full").unwrap();
    let mut command = bench.command(&["inspect", "nowhere"]);
    let status = command.stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

/// Too little memory is a failure, and leaves nothing.
#[cfg(target_os = "linux")]
#[test]
fn a_limit_of_memory() {
    let bench = Bench::new();
    for limit in [80_000, 120_000, 200_000] {
        let script = format!("ulimit -v {limit}; exec \"$0\" \"$@\"");
        let output = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_noisyquant")])
            .args(bench.quantize_arguments("out", &["--image-size", "640"]))
            .env("RAYON_NUM_THREADS", "1")
            .env_remove("RUST_BACKTRACE")
            .current_dir(bench.path(""))
            .output()
            .unwrap();
        let error = text(output.stderr);
        assert_eq!(output.status.code(), Some(1), "{limit} KiB: {error}");
        assert_eq!(error.lines().count(), 1, "{limit} KiB: {error}");
        assert_eq!(files(&bench), [""; 0], "{limit} KiB");
    }
}
