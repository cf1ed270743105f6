//! The tool in a process that may start no thread: the same results, with a warning.

#![cfg(target_os = "linux")]

mod tool;

use std::process::{Command, Output};

use tool::{Bench, text};

/// What the tool prints, and says on stderr, where the stack of a single thread is more than the process may
/// have. (Many threads of small stacks would leave nothing for what the first of them allocate.)
fn bounded(bench: &Bench, arguments: &[&str]) -> (bool, String, String) {
    let bounded = r#"ulimit -v 700000 && exec "$0" "$@""#;
    let tool = bench.command(arguments);
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new("sh")
        .args(["-c", bounded])
        .arg(tool.get_program())
        .args(tool.get_args())
        .env("RAYON_NUM_THREADS", "2")
        .env("RUST_MIN_STACK", "1073741824")
        .output()
        .unwrap();
    (status.success(), text(stdout), text(stderr))
}

#[test]
fn every_command_works_on_one_thread_and_says_so() {
    let bench = Bench::new();
    let (plain, serial) = (bench.path("plain"), bench.path("serial"));
    let photo = bench.picture("0/a.png");
    bench.quantize(&plain, &[]);
    let check = |arguments: &[&str], expected: &str| {
        let (success, said, warned) = bounded(&bench, arguments);
        assert!(success, "{arguments:?}: {warned}");
        let lines: Vec<&str> = warned.lines().collect();
        let whole = lines.len() == 1
            && lines[0].starts_with("warning: threads: expected a pool of them, got: ")
            && lines[0].ends_with("; everything runs on one");
        assert!(whole, "{arguments:?}: {warned}");
        if !expected.is_empty() {
            assert_eq!(said, expected, "{arguments:?}");
        }
    };
    let run = ["run", &bench.checkpoint, &photo];
    check(&run, &bench.succeed(&run));
    let run = ["run", &plain, &photo];
    check(&run, &bench.succeed(&run));
    let compare = [
        "compare",
        &bench.checkpoint,
        &plain,
        "--images",
        &bench.images,
    ];
    check(&compare, &bench.succeed(&compare));
    check(&bench.quantize_arguments(&serial, &[]), "");
    assert_eq!(
        std::fs::read(&serial).unwrap(),
        std::fs::read(&plain).unwrap()
    );
    // Nothing to compute.
    let inspect = ["inspect", &plain];
    let (success, said, warned) = bounded(&bench, &inspect);
    assert!(success && warned.is_empty(), "{warned}");
    assert_eq!(said, bench.succeed(&inspect));
}

#[test]
fn strict_fails_without_threads() {
    let bench = Bench::new();
    let photo = bench.picture("0/a.png");
    let (success, said, failed) = bounded(&bench, &["--strict", "run", &bench.checkpoint, &photo]);
    assert!(!success && said.is_empty());
    assert!(
        failed.starts_with("error: --strict: expected no warning, got: threads: "),
        "{failed}"
    );
    assert_eq!(failed.lines().count(), 1, "{failed}");
}
