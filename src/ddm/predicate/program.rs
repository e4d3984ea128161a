//! The program of a regular expression: its steps, and the sets of letters that they ask for.
//!
//! [`super::pattern`] reads the pieces, which become steps here, repetitions written out;
//! [`super::regex`] runs them.
//!
//! **Invariant:** a program has at most [`MAX_STEPS`] steps, and making it takes not many more; each
//! step leads to another or to the end.

use super::tree::Options;

/// The most steps of a program.
const MAX_STEPS: usize = 5000;

/// What one letter is compared with.
#[derive(Debug, Default)]
pub(super) struct Set {
    pub(super) negated: bool,
    pub(super) parts: Vec<Part>,
}

#[derive(Debug)]
pub(super) enum Part {
    Range(char, char),
    /// `\d`, `\w` or `\s`, or by `false` what it is not.
    Kind(char, bool),
}

impl Set {
    /// How much work it is to look for a letter in it.
    pub(super) fn weight(&self) -> usize {
        1 + self.parts.len() / 4
    }

    /// Whether this letter, folded as the options of the pattern say, is in the set.
    pub(super) fn has(&self, c: char, options: Options) -> bool {
        let upper = c.to_uppercase().next().filter(|_| options.case).unwrap_or(c);
        let found = self.parts.iter().any(|part| match part {
            Part::Range(first, last) => [c, upper].iter().any(|c| (first..=last).contains(&c)),
            Part::Kind(kind, is) => is_kind(c, *kind) == *is,
        });
        found != self.negated
    }
}

fn is_kind(c: char, kind: char) -> bool {
    match kind {
        'd' => c.is_ascii_digit(),
        'w' => c.is_alphanumeric() || c == '_',
        _ => c.is_whitespace(),
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// A letter of the set with this number.
    Letter(usize),
    /// On at both.
    Fork(usize, usize),
    Go(usize),
    Start,
    End,
}

/// What a pattern became. After the last step it has matched.
pub(super) struct Program {
    pub(super) steps: Vec<Step>,
    pub(super) sets: Vec<Set>,
    pub(super) options: Options,
}

/// A piece of a pattern.
pub(super) enum Piece {
    Letter(usize),
    Start,
    End,
    Sequence(Vec<Piece>),
    Either(Vec<Piece>),
    Repeat(Box<Piece>, usize, Option<usize>),
}

/// The steps of a pattern; nothing if they are too many.
pub(super) fn steps(whole: &Piece) -> Option<Vec<Step>> {
    let mut writer = Writer { steps: Vec::new(), work: 0 };
    writer.piece(whole)?;
    Some(writer.steps)
}

struct Writer {
    steps: Vec<Step>,
    /// Counts what writes no step as well, so that repeating nothing ends too.
    work: usize,
}

impl Writer {
    fn push(&mut self, step: Step) -> Option<usize> {
        self.steps.push(step);
        (self.steps.len() <= MAX_STEPS).then(|| self.steps.len() - 1)
    }

    fn piece(&mut self, piece: &Piece) -> Option<()> {
        self.work += 1;
        if self.work > 4 * MAX_STEPS {
            return None;
        }
        match piece {
            Piece::Letter(set) => self.push(Step::Letter(*set)).map(|_| ()),
            Piece::Start => self.push(Step::Start).map(|_| ()),
            Piece::End => self.push(Step::End).map(|_| ()),
            Piece::Sequence(pieces) => pieces.iter().try_for_each(|piece| self.piece(piece)),
            Piece::Either(branches) => self.either(branches),
            Piece::Repeat(piece, least, most) => self.repeat(piece, *least, *most),
        }
    }

    fn either(&mut self, branches: &[Piece]) -> Option<()> {
        let mut ends = Vec::new();
        for (index, branch) in branches.iter().enumerate() {
            if index + 1 == branches.len() {
                self.piece(branch)?;
                break;
            }
            let fork = self.push(Step::Fork(0, 0))?;
            self.piece(branch)?;
            ends.push(self.push(Step::Go(0))?);
            self.steps[fork] = Step::Fork(fork + 1, self.steps.len());
        }
        for end in ends {
            self.steps[end] = Step::Go(self.steps.len());
        }
        Some(())
    }

    fn repeat(&mut self, piece: &Piece, least: usize, most: Option<usize>) -> Option<()> {
        for _ in 0..least {
            self.piece(piece)?;
        }
        let Some(most) = most else {
            let fork = self.push(Step::Fork(0, 0))?;
            self.piece(piece)?;
            let back = self.push(Step::Go(fork))?;
            self.steps[fork] = Step::Fork(fork + 1, back + 1);
            return Some(());
        };
        let mut forks = Vec::new();
        for _ in least..most {
            forks.push(self.push(Step::Fork(0, 0))?);
            self.piece(piece)?;
        }
        for fork in forks {
            self.steps[fork] = Step::Fork(fork + 1, self.steps.len());
        }
        Some(())
    }
}
