//! The choice of a recipe for a layer: candidates are fitted to one half of the rows and judged on
//! the other (eq. 28).

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::noise::Noise;
use crate::objective::{Errors, Objective};
use crate::problem::{Channel, Problem};
use crate::quantizer::{Quantizer, Range};
use crate::recipe::{ChannelScale, Recipe, Shift};
use crate::weights::WeightQuantizer;

/// Parts that the rows are cut into. They are runs of rows, so that those of one photo stay together.
const FOLDS: usize = 4;

/// How far the rows that judge the worst token are stretched about the mean: they stand for inputs
/// further out than any seen.
const STRETCH: f32 = 1.15;

/// Migration strengths and range factors that are tried together.
const STRENGTHS: [f32; 8] = [0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875];
const FACTORS: [f32; 4] = [1.0, 1.1, 1.25, 1.5];

/// What was chosen, and its errors on rows that it was not fitted to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
            let layer = fold.fitted.layer(&fold.fitted.realize(recipe)?)?;
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
pub(crate) fn choose(problem: &Problem<'_>) -> Result<Outcome, Error> {
    let k = problem.k;
    let rows = problem.rows.len() / k;
    if rows < 2 {
        let what = "the automatic choice (two rows, to judge on one what was fitted to the other)";
        return Err(Error::Calibration { what });
    }
    let data = fold_rows(problem, rows.min(FOLDS));
    let folds = data.iter().map(|[fitted, judged, stretched]| Fold {
        fitted: problem.with_rows(fitted),
        judged: problem.with_rows(judged),
        stretched: problem.with_rows(stretched),
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
    for strength in STRENGTHS {
        for factor in FACTORS {
            search.offer(Recipe {
                quantizer: Quantizer::centered(Range::Widened(factor)),
                shift: Shift::MidRange,
                channel_scale: ChannelScale::Strength(strength),
                bias_correction: true,
                ..Recipe::default()
            });
        }
    }
    search.change(|recipe| recipe.shift = Shift::MidRangeOnLevel);
    search.change(|recipe| recipe.weights = WeightQuantizer::MSE);
    search.change(|recipe| recipe.weights = WeightQuantizer::COMPENSATED);
    search.change(|recipe| recipe.noise = Noise::Searched { seed: 0 });
    let (_, recipe, after) = search.best;
    Ok(Outcome {
        recipe,
        before,
        after,
    })
}

/// For each of `count` parts: the rows outside it, those within, and those within stretched.
fn fold_rows(problem: &Problem<'_>, count: usize) -> Vec<[Vec<f32>; 3]> {
    let k = problem.k;
    let rows = problem.rows.len() / k;
    let channels = problem.channels();
    let fold = |i: usize| {
        let (from, to) = (i * rows / count * k, (i + 1) * rows / count * k);
        let judged = problem.rows[from..to].to_vec();
        let stretched = judged.chunks_exact(k).flat_map(|row| {
            let stretch = |(x, c): (&f32, &Channel)| {
                // An overflow would poison the outputs; such rows are not stretched.
                let far = c.mean + STRETCH * (x - c.mean);
                if far.is_finite() { far } else { *x }
            };
            row.iter().zip(channels).map(stretch)
        });
        let stretched = stretched.collect();
        let fitted = [&problem.rows[..from], &problem.rows[to..]].concat();
        [fitted, judged, stretched]
    };
    (0..count).map(fold).collect()
}
