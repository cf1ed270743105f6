//! Charts as inline SVG. Colours come from classes, so that the page's style decides on light and dark.

use maud::{Markup, html};

use super::data::Histogram;
use crate::measure::compare::LayerError;

/// A range of numbers on a stretch of a drawing.
#[derive(Clone, Copy)]
struct Axis {
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl Axis {
    fn place(&self, value: f64) -> f64 {
        let share = (value - self.from) / (self.to - self.from);
        self.start + share.clamp(0.0, 1.0) * (self.end - self.start)
    }

    fn holds(&self, value: f64) -> bool {
        (self.from..=self.to).contains(&value)
    }
}

/// Round numbers between `from` and `to`, about `count` of them.
fn ticks(from: f64, to: f64, count: f64) -> Vec<f64> {
    let rough = (to - from) / count;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    let step = step
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(rough);
    let first = (from / step).ceil() as i64;
    let last = (to / step).floor() as i64;
    (first..=last).map(|at| at as f64 * step).collect()
}

/// A number with as many digits as a reader of an axis wants.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => 0,
        v if v >= 10.0 => 0,
        v if v >= 1.0 => 1,
        v => (1.0 - v.log10().floor()) as usize,
    };
    let text = format!("{value:.digits$}").replace('-', "−");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').into(),
        false => text,
    }
}

const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 190.0;
/// More level lines than this would be a grey area.
const MOST_LINES: usize = 70;

/// A histogram with the levels that numbers are rounded to. With `logarithmic`, shares are in powers
/// of ten, so that the few large numbers can be seen beside the many small ones.
pub(super) fn histogram(
    label: &str,
    caption: &str,
    histogram: &Histogram,
    levels: &[f64],
    logarithmic: bool,
) -> Markup {
    let (left, right, top, bottom) = (58.0, WIDTH - 14.0, 10.0, HEIGHT - 34.0);
    let x = Axis {
        from: histogram.low,
        to: histogram.high,
        start: left,
        end: right,
    };
    let most = histogram.shares.iter().copied().fold(0.0, f64::max);
    let least = histogram
        .shares
        .iter()
        .copied()
        .filter(|s| *s > 0.0)
        .fold(1.0, f64::min);
    let scaled = |share: f64| if logarithmic { share.log10() } else { share };
    let (from, to) = match logarithmic {
        true => (least.log10().floor() - 0.3, most.log10().ceil().min(0.0)),
        false => (0.0, most.max(f64::MIN_POSITIVE) * 1.05),
    };
    let y = Axis {
        from,
        to: to.max(from + 1e-9),
        start: bottom,
        end: top,
    };
    let y_ticks = match logarithmic {
        true => {
            let decades: Vec<i32> = (from.ceil() as i32..=to as i32).collect();
            let every = decades.len().div_ceil(5).max(1);
            decades
                .iter()
                .rev()
                .step_by(every)
                .map(|power| 10f64.powi(*power))
                .collect()
        }
        false => ticks(from, to, 4.0),
    };
    let bin = (right - left) / histogram.shares.len() as f64;
    let lines = level_lines(levels, &x);
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(label) {
            title { (label) }
            @for share in y_ticks {
                @let at = y.place(scaled(share));
                line.grid x1=(left) x2=(right) y1=(at) y2=(at) {}
                text.tick x=(left - 6.0) y=(at + 4.0) text-anchor="end" { (percent(share)) }
            }
            @for (at, share) in histogram.shares.iter().enumerate() {
                @if *share > 0.0 {
                    @let height = bottom - y.place(scaled(*share));
                    rect.bar x=(format!("{:.2}", left + bin * at as f64))
                        y=(format!("{:.2}", bottom - height))
                        width=(format!("{:.2}", bin)) height=(format!("{height:.2}")) {}
                }
            }
            @for at in lines {
                line.level x1=(at) x2=(at) y1=(top) y2=(bottom) {}
            }
            line.axis x1=(left) x2=(right) y1=(bottom) y2=(bottom) {}
            @for value in ticks(histogram.low, histogram.high, 6.0) {
                line.axis x1=(x.place(value)) x2=(x.place(value)) y1=(bottom) y2=(bottom + 4.0) {}
                text.tick x=(x.place(value)) y=(bottom + 16.0) text-anchor="middle" { (short(value)) }
            }
            text.name x=((left + right) / 2.0) y=(HEIGHT - 3.0) text-anchor="middle" { (caption) }
        }
    }
}

/// Places of the levels in view; where they are too many, none.
fn level_lines(levels: &[f64], x: &Axis) -> Vec<f64> {
    let in_view = levels.iter().filter(|level| x.holds(**level));
    let places: Vec<f64> = in_view.map(|level| x.place(*level)).collect();
    if places.len() > MOST_LINES {
        Vec::new()
    } else {
        places
    }
}

fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    match percent {
        0.0 => "0".into(),
        p if p >= 0.001 => format!("{} %", short(p)),
        p => format!("10{} %", superscript(p.log10().round() as i32)),
    }
}

fn superscript(power: i32) -> String {
    let digit = |c: char| match c {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        c => char::from_u32('⁰' as u32 + c as u32 - '0' as u32).unwrap_or(c),
    };
    power.to_string().chars().map(digit).collect()
}

/// Error of every layer, one line each, on a logarithmic scale: a dot for the layer on its own, a ring
/// for the layer along the way.
pub(super) fn errors(layers: &[LayerError]) -> Markup {
    const LINE: f64 = 15.0;
    let all = layers.iter().flat_map(|layer| [layer.alone, layer.along]);
    let positive: Vec<f64> = all.filter(|error| *error > 0.0).map(f64::log10).collect();
    let from = positive.iter().copied().fold(0.0, f64::min).floor();
    let to = positive.iter().copied().fold(from + 1.0, f64::max).ceil();
    let longest = layers.iter().map(|layer| layer.layer.chars().count()).max();
    let (left, right, top) = (12.0 + 6.4 * longest.unwrap_or(0) as f64, 692.0, 24.0);
    let bottom = top + LINE * layers.len() as f64;
    let x = Axis {
        from,
        to,
        start: left,
        end: right,
    };
    let place = |error: f64| x.place(error.max(f64::MIN_POSITIVE).log10());
    html! {
        svg viewBox=(format!("0 0 720 {}", bottom + 22.0)) role="img" aria-label="error of each layer" {
            title { "Relative squared error of each layer" }
            @for power in from as i32..=to as i32 {
                @let at = x.place(power.into());
                line.grid x1=(at) x2=(at) y1=(top - 4.0) y2=(bottom) {}
                @for y in [top - 10.0, bottom + 15.0] {
                    text.tick x=(at) y=(y) text-anchor="middle" { (percent(10f64.powi(power))) }
                }
            }
            @for (at, layer) in layers.iter().enumerate() {
                @let y = top + LINE * (at as f64 + 0.5);
                @let (alone, along) = (place(layer.alone), place(layer.along));
                text.row x=(left - 8.0) y=(y + 4.0) text-anchor="end" { (layer.layer) }
                g {
                    title {
                        (layer.layer) ": alone " (percent(layer.alone))
                        ", along the way " (percent(layer.along))
                    }
                    line.stem x1=(alone) x2=(along) y1=(y) y2=(y) {}
                    @if layer.along > 0.0 { circle.along cx=(along) cy=(y) r="4" {} }
                    @if layer.alone > 0.0 { circle.alone cx=(alone) cy=(y) r="4" {} }
                }
            }
        }
    }
}

/// A horizontal bar.
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) value: f64,
    /// What stands behind the bar.
    pub(super) text: String,
    /// Class of the bar: `float` or `bar`.
    pub(super) class: &'static str,
}

/// Bars from zero, longest where the value is largest.
pub(super) fn bars(label: &str, bars: &[Bar]) -> Markup {
    const LINE: f64 = 24.0;
    let longest = bars.iter().map(|bar| bar.label.chars().count()).max();
    let left = 12.0 + 7.0 * longest.unwrap_or(0) as f64;
    let most = bars
        .iter()
        .map(|bar| bar.value)
        .fold(f64::MIN_POSITIVE, f64::max);
    let x = Axis {
        from: 0.0,
        to: most,
        start: left,
        end: 570.0,
    };
    html! {
        svg viewBox=(format!("0 0 720 {}", LINE * bars.len() as f64)) role="img" aria-label=(label) {
            title { (label) }
            @for (at, bar) in bars.iter().enumerate() {
                @let y = LINE * at as f64;
                text.row x=(left - 8.0) y=(y + 16.0) text-anchor="end" { (bar.label) }
                rect class=(bar.class) x=(left) y=(y + 4.0) height=(LINE - 8.0) rx="2"
                    width=(format!("{:.2}", x.place(bar.value) - left)) {}
                text.value x=(format!("{:.2}", x.place(bar.value) + 8.0)) y=(y + 16.0) { (bar.text) }
            }
        }
    }
}
