//! The page of `report` in a real browser: headless Chromium, which `.ci/browser` installs.

mod tool;

use std::{fs, process::Command};

use serde_json::Value;
use tool::{Bench, golden, json, text};

/// Looks at a page that has been laid out: what is wider than the window, which texts of a drawing
/// touch each other or leave it, and what the page wants from elsewhere.
const PROBE: &str = r#"<script>
const problems = [];
const root = document.documentElement;
if (root.scrollWidth > root.clientWidth) problems.push(`page of ${root.scrollWidth} in ${root.clientWidth}`);
for (const svg of document.querySelectorAll("svg")) {
  const frame = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll("text")];
  const boxes = texts.map((text) => [text.textContent, text.getBoundingClientRect()]);
  boxes.forEach(([words, box], at) => {
    const [wide, high] = [box.left < frame.left - 1 || box.right > frame.right + 1,
      box.top < frame.top - 1 || box.bottom > frame.bottom + 1];
    if (wide || high)
      problems.push(`${svg.ariaLabel}: "${words}" leaves the drawing`);
    for (const [other, place] of boxes.slice(at + 1))
      if (box.left < place.right && place.left < box.right
          && box.top + 2 < place.bottom && place.top + 2 < box.bottom)
        problems.push(`${svg.ariaLabel}: "${words}" touches "${other}"`);
  });
}
const foreign = performance.getEntriesByType("resource").map((entry) => entry.name);
const result = { problems, foreign, drawings: document.querySelectorAll("svg").length,
  background: getComputedStyle(document.body).backgroundColor };
const pre = document.createElement("pre");
pre.id = "probe";
pre.textContent = JSON.stringify(result);
document.body.append(pre);
</script>"#;

/// The page's document after it was laid out, and what the browser's console said.
fn browse(bench: &Bench, page: &str, width: u32, more: &[&str]) -> (String, Vec<String>) {
    let profile = format!("--user-data-dir={}", bench.path("profile"));
    let size = format!("--window-size={width},900");
    let output = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
        ])
        .args(["--dump-dom", &profile, &size])
        .args(more)
        .arg(format!("file://{page}"))
        .output()
        .expect("expected chromium, which .ci/browser installs");
    assert!(output.status.success(), "{}", text(output.stderr));
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let console = log.lines().filter(|line| line.contains(":CONSOLE"));
    (text(output.stdout), console.map(String::from).collect())
}

/// What [`PROBE`] finds on a copy of the page.
fn probe(bench: &Bench, page: &str, width: u32, more: &[&str]) -> Value {
    let copy = bench.path("probed.html");
    let html = fs::read_to_string(page).unwrap();
    fs::write(&copy, html.replace("</body>", &format!("{PROBE}</body>"))).unwrap();
    let (document, console) = browse(bench, &copy, width, more);
    assert_eq!(console, [""; 0]);
    let result = document.split("<pre id=\"probe\">").nth(1).unwrap();
    json(result.split("</pre>").next().unwrap())
}

#[test]
#[ignore = "needs chromium: .ci/browser runs it"]
fn the_page_opens_without_errors_and_nothing_overlaps() {
    let bench = Bench::new();
    let swin = golden("hf-swin");
    for (checkpoint, bits) in [(bench.checkpoint.as_str(), "8"), (&swin, "4")] {
        let file = bench.path("quantized.safetensors");
        let images = ["--images", &bench.images];
        let bits = ["--weight-bits", bits, "--activation-bits", bits];
        bench.succeed(&[&["quantize", checkpoint, "-o", &file], &images[..], &bits].concat());
        let page = bench.path("report.html");
        let report = [
            "report",
            checkpoint,
            &file,
            "-o",
            &page,
            "--seconds",
            "0",
            "--json",
        ];
        let data = json(&bench.succeed(&[&report[..], &images].concat()));
        let html = fs::read_to_string(&page).unwrap();
        for outside in ["http:", "https:", "<script", "<img", "@import", "url("] {
            assert!(!html.contains(outside), "the page has {outside}");
        }

        let (document, console) = browse(&bench, &page, 1100, &[]);
        assert_eq!(console, [""; 0]);
        let comparison = &data["comparison"];
        let cosine = format!("{:.4}", comparison["cosine_mean"].as_f64().unwrap());
        let layer = data["choices"][0]["layer"].as_str().unwrap();
        for words in [
            "NoisyQuant",
            "Error of each layer",
            "Latency",
            "What was chosen",
            &cosine,
            layer,
        ] {
            assert!(document.contains(words), "{words} is missing in the page");
        }

        let dark = ["--blink-settings=preferredColorScheme=0"];
        let mut backgrounds = Vec::new();
        for (width, more) in [(1100, &[][..]), (560, &[]), (1100, &dark)] {
            let found = probe(&bench, &page, width, more);
            assert_eq!(
                found["problems"].as_array().unwrap(),
                &[""; 0],
                "{checkpoint}, {width} pixels"
            );
            assert_eq!(found["foreign"].as_array().unwrap(), &[""; 0]);
            let tails = data["tails"].as_array().unwrap().len();
            let threads = data["latency"]
                .as_array()
                .unwrap()
                .iter()
                .map(|row| row["threads"].as_u64());
            let settings = threads.collect::<std::collections::BTreeSet<_>>().len();
            assert_eq!(found["drawings"], 1 + 4 * tails + 1 + settings);
            backgrounds.push(found["background"].clone());
        }
        assert_eq!(backgrounds[0], backgrounds[1]);
        assert_ne!(backgrounds[0], backgrounds[2], "dark is as light");
    }
}

/// What the test above looks for, it sees where it is.
#[test]
#[ignore = "needs chromium: .ci/browser runs it"]
fn a_bad_page_is_found_out() {
    let bench = Bench::new();
    let page = bench.path("bad.html");
    let bad = "<body><div style='width: 2000px'>wide</div><svg width=90 height=20>\
               <text x=2 y=15>one</text><text x=9 y=15>two</text>\
               <text x=80 y=15>out of it</text></svg></body>";
    fs::write(&page, bad).unwrap();
    let found = probe(&bench, &page, 800, &[]);
    let problems = found["problems"].as_array().unwrap();
    for words in ["page of 20", "touches", "leaves the drawing"] {
        let mut words_of = problems.iter().map(|problem| problem.as_str().unwrap());
        assert!(
            words_of.any(|problem| problem.contains(words)),
            "{words}: {problems:?}"
        );
    }
    fs::write(&page, "<body><script>nowhere()</script></body>").unwrap();
    assert!(!browse(&bench, &page, 800, &[]).1.is_empty());
}
