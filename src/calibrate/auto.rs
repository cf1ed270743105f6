//! The choice of a recipe for a layer: candidates are fitted to a part of the rows and judged on the
//! others (eq. 28).

use serde::{Deserialize, Serialize};

use super::noise::Noise;
use super::objective::{Errors, Objective};
use super::problem::{Channel, Problem};
use super::quantizer::{ActivationRange, Quantizer};
use super::realize::realize;
use super::recipe::{ChannelScale, Recipe, Refine, Shift};
use super::weights::WeightQuantizer;
use crate::check;
use crate::error::Error;

/// Parts that the rows are cut into. They are runs of rows, so that those of one photo stay together.
const FOLDS: usize = 4;

/// What the automatic choice tries, as data. Min-max symmetric is always tried, so that nothing worse
/// is chosen; then [`recipes`](Self::recipes) as they are; then every pair of strength and headroom;
/// then changes of one part of the best so far, in the order of the fields.
///
/// ```
/// use noisyquant::{Candidates, QuantLinear, Recipe};
/// # let (weight, rows) = ([0.5f32, -1.0, 0.25, 2.0], [0.1f32, -0.9, 0.4, 3.0, 0.2, 0.8]);
/// // The best of what the literature names, and nothing else.
/// let candidates = Candidates {
///     recipes: Recipe::named().into_iter().map(|(_, recipe)| recipe).collect(),
///     ..Candidates::none()
/// };
/// let builder = QuantLinear::builder(&weight, 2, 2).calibration_rows(&rows);
/// let (layer, outcome) = builder.build_auto_from(&candidates)?;
/// # let _ = (layer, outcome);
/// # Ok::<(), noisyquant::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Candidates {
    /// Whole recipes.
    pub recipes: Vec<Recipe>,
    /// Migration strengths ([`ChannelScale::Strength`]) of centered mid-range recipes, ...
    pub strengths: Vec<f32>,
    /// ... each tried with each of these factors of the range ([`ActivationRange::Widened`]).
    pub headrooms: Vec<f32>,
    /// Balances ([`ChannelScale::Balanced`]), tried with the best strength so far and with strength 1.
    /// They narrow the range of some channels, and so must also pass [`far`](Self::far).
    pub balances: Vec<f32>,
    /// Other shifts.
    pub shifts: Vec<Shift>,
    /// Other weight quantizers.
    pub weights: Vec<WeightQuantizer>,
    /// Noise.
    pub noises: Vec<Noise>,
    /// Coordinate searches.
    pub refinements: Vec<Refine>,
    /// How far the rows that judge the worst token are stretched about the channels' means: they stand
    /// for inputs further out than any seen.
    pub stretch: f32,
    /// The stretch at which a balance may have no worse a worst token than the best so far, or than
    /// min-max symmetric without stretch.
    pub far: f32,
}

impl Default for Candidates {
    fn default() -> Candidates {
        Candidates {
            strengths: (0..8).map(|i| i as f32 / 8.0).collect(),
            headrooms: vec![1.0, 1.1, 1.25, 1.5],
            balances: vec![0.5, 1.0, 2.0],
            shifts: vec![Shift::MidRangeOnLevel],
            weights: vec![WeightQuantizer::MSE, WeightQuantizer::COMPENSATED],
            noises: vec![Noise::Searched { seed: 0 }],
            ..Candidates::none()
        }
    }
}

impl Candidates {
    /// Nothing but min-max symmetric.
    pub fn none() -> Candidates {
        Candidates {
            recipes: Vec::new(),
            strengths: Vec::new(),
            headrooms: Vec::new(),
            balances: Vec::new(),
            shifts: Vec::new(),
            weights: Vec::new(),
            noises: Vec::new(),
            refinements: Vec::new(),
            stretch: 1.15,
            far: 1.3,
        }
    }

    fn check(&self) -> Result<(), Error> {
        check::all("stretch", "within 1..=16", &[self.stretch, self.far], |s| {
            (1.0..=16.0).contains(&s)
        })
    }
}

/// What was chosen, and its errors on rows that it was not fitted to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Outcome {
    /// The choice.
    pub recipe: Recipe,
    /// Errors of the plain symmetric min-max layer.
    pub before: Errors,
    /// Errors of the choice.
    pub after: Errors,
}

/// A part of the rows as it judges what was fitted to the rest.
struct Fold<'a> {
    fitted: Problem<'a>,
    judged: Problem<'a>,
    stretched: Problem<'a>,
    far: Problem<'a>,
}

/// All parts, and the plain symmetric min-max layer's errors on them.
struct Folds<'a> {
    folds: Vec<Fold<'a>>,
    reference: Errors,
}

impl Folds<'_> {
    /// Errors over all rows, each from the fold that was not fitted to it.
    fn errors(&self, recipe: &Recipe) -> Result<Errors, Error> {
        let mut total = Errors::default();
        for fold in &self.folds {
            let layer = fold.fitted.layer(&realize(&fold.fitted, recipe)?)?;
            let errors = fold.judged.errors(&layer)?;
            total.mse += errors.mse / self.folds.len() as f64;
            total.cosine += errors.cosine / self.folds.len() as f64;
            total.worst_token = total.worst_token.max(errors.worst_token);
            if *recipe != Recipe::default() {
                // What is compared must do as well further out as the plain layer does within.
                let far = fold.stretched.errors(&layer)?;
                total.worst_token = total.worst_token.max(far.worst_token);
            }
        }
        Ok(total)
    }

    /// The worst token of inputs that lie far out; infinite for a recipe that cannot be built.
    fn far(&self, recipe: &Recipe) -> f64 {
        let worst = |fold: &Fold<'_>| -> Result<f64, Error> {
            let layer = fold.fitted.layer(&realize(&fold.fitted, recipe)?)?;
            Ok(fold.far.errors(&layer)?.worst_token)
        };
        let worst = self
            .folds
            .iter()
            .map(|fold| worst(fold).unwrap_or(f64::INFINITY));
        worst.fold(0.0, f64::max)
    }
}

/// The best so far.
struct Search<'a> {
    folds: Folds<'a>,
    best: (f64, Recipe, Errors),
}

impl Search<'_> {
    /// Takes `recipe` if it scores better. One that cannot be built is not better.
    fn offer(&mut self, recipe: Recipe) {
        let Ok(errors) = self.folds.errors(&recipe) else {
            return;
        };
        let score = Objective::Combined.score(&errors, &self.folds.reference);
        if score < self.best.0 {
            self.best = (score, recipe, errors);
        }
    }

    /// As [`change`](Self::change), for one that leaves some channel less room.
    fn change_with_room(&mut self, change: impl FnOnce(&mut Recipe)) {
        let last = self.best.clone();
        self.change(change);
        if self.best.1 == last.1 {
            return;
        }
        // Dearer only if it must be: most are well within what min-max does on rows as they are.
        let far = self.folds.far(&self.best.1);
        if far > self.folds.reference.worst_token && far > self.folds.far(&last.1) {
            self.best = last;
        }
    }

    /// Offers a change of one part of the best recipe so far.
    fn change(&mut self, change: impl FnOnce(&mut Recipe)) {
        let mut recipe = self.best.1.clone();
        change(&mut recipe);
        if recipe != self.best.1 {
            self.offer(recipe);
        }
    }
}

/// The recipe for `problem`.
pub(crate) fn choose(problem: &Problem<'_>, candidates: &Candidates) -> Result<Outcome, Error> {
    candidates.check()?;
    let k = problem.k;
    let rows = problem.rows.len() / k;
    if rows < 2 {
        let what = "the automatic choice (two rows, to judge on one what was fitted to the other)";
        return Err(Error::Calibration { what });
    }
    let data = fold_rows(
        problem,
        rows.min(FOLDS),
        [candidates.stretch, candidates.far],
    );
    let folds = data.iter().map(|[fitted, judged, stretched, far]| Fold {
        fitted: problem.with_rows(fitted),
        judged: problem.with_rows(judged),
        stretched: problem.with_rows(stretched),
        far: problem.with_rows(far),
    });
    let mut folds = Folds {
        folds: folds.collect(),
        reference: Errors::default(),
    };
    let plain = Recipe::default();
    folds.reference = folds.errors(&plain)?;
    let before = folds.reference;
    let mut search = Search {
        folds,
        best: (f64::INFINITY, plain.clone(), before),
    };
    search.offer(plain);
    search.run(candidates);
    let (_, recipe, after) = search.best;
    Ok(Outcome {
        recipe,
        before,
        after,
    })
}

impl Search<'_> {
    fn run(&mut self, candidates: &Candidates) {
        for recipe in &candidates.recipes {
            self.offer(recipe.clone());
        }
        for strength in &candidates.strengths {
            for headroom in &candidates.headrooms {
                self.offer(Recipe {
                    quantizer: Quantizer::centered(ActivationRange::Widened(*headroom)),
                    shift: Shift::MidRange,
                    channel_scale: ChannelScale::Strength(*strength),
                    bias_correction: true,
                    ..Recipe::default()
                });
            }
        }
        if let ChannelScale::Strength(best) = self.best.1.channel_scale {
            for balance in &candidates.balances {
                for strength in [best, 1.0] {
                    let balance = *balance;
                    let scale = ChannelScale::Balanced { strength, balance };
                    self.change_with_room(|recipe| recipe.channel_scale = scale);
                }
            }
        }
        for shift in &candidates.shifts {
            self.change(|recipe| recipe.shift = *shift);
        }
        for weights in &candidates.weights {
            self.change(|recipe| recipe.weights = *weights);
        }
        for noise in &candidates.noises {
            self.change(|recipe| recipe.noise = noise.clone());
        }
        for refine in &candidates.refinements {
            self.change(|recipe| recipe.refine = Some(*refine));
        }
    }
}

/// For each of `count` parts: the rows outside it, those within, and those within stretched by either
/// factor.
fn fold_rows(problem: &Problem<'_>, count: usize, stretches: [f32; 2]) -> Vec<[Vec<f32>; 4]> {
    let k = problem.k;
    let rows = problem.rows.len() / k;
    let channels = problem.channels();
    let fold = |i: usize| {
        let (from, to) = (i * rows / count * k, (i + 1) * rows / count * k);
        let judged = problem.rows[from..to].to_vec();
        let [near, far] = stretches.map(|factor| {
            let stretch = |(x, c): (&f32, &Channel)| {
                // An overflow would poison the outputs; such rows are not stretched.
                let far = c.mean + factor * (x - c.mean);
                if far.is_finite() { far } else { *x }
            };
            let rows = judged.chunks_exact(k);
            rows.flat_map(|row| row.iter().zip(channels).map(stretch))
                .collect()
        });
        let fitted = [&problem.rows[..from], &problem.rows[to..]].concat();
        [fitted, judged, near, far]
    };
    (0..count).map(fold).collect()
}
