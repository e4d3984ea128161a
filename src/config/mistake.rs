//! A mistake in the configuration: where it is, and what to do about it.
//!
//! Made by `settings` and `tables` while they read, printed by `check` and by every command that
//! cannot start. One line for each, in the form that editors turn into a link.
//!
//! **Invariant:** the words never repeat the value of a secret.

use std::fmt;
use std::path::PathBuf;

/// One mistake, for the person who edits the file or sets the variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The configuration file, or `None` for an environment variable and for defaults.
    pub file: Option<PathBuf>,
    /// Line in the file, counted from 1.
    pub line: Option<usize>,
    /// The setting as `table.key`, or the name of the environment variable; empty where the file
    /// itself is at fault.
    pub key: String,
    /// What is wrong, and what to do.
    pub words: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
            if let Some(line) = self.line {
                write!(f, "{line}:")?;
            }
            f.write_str(" ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.words)
    }
}

/// Every mistake that was found, the file's by line and then those of the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl Mistakes {
    /// Puts the mistakes in the order in which a person goes through them.
    pub fn sorted(mut mistakes: Vec<Mistake>) -> Self {
        mistakes.sort_by(|a, b| (a.file.is_none(), a.line, &a.key).cmp(&(b.file.is_none(), b.line, &b.key)));
        mistakes.dedup();
        Self(mistakes)
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            mistake.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// The name among `names` that was probably meant, if one is near: few letters apart.
pub(super) fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|name| (distance(wrong, name), name))
        .filter(|(distance, name)| *distance <= (name.len() / 3).max(1))
        .min()
        .map(|(_, name)| name)
}

/// How many letters have to be added, taken away, changed or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_the_name_that_was_meant() {
        let names = ["listen", "admin_listen", "http_listen", "public_url"];
        assert_eq!(nearest("lisetn", names.into_iter()), Some("listen"));
        assert_eq!(nearest("publicurl", names.into_iter()), Some("public_url"));
        assert_eq!(nearest("port", names.into_iter()), None);
    }

    #[test]
    fn a_mistake_reads_as_file_line_key_and_sentence() {
        let mut mistake = Mistake {
            file: Some("russet.toml".into()),
            line: Some(3),
            key: "server.lisen".into(),
            words: "there is no such key".into(),
        };
        assert_eq!(mistake.to_string(), "russet.toml:3: server.lisen: there is no such key");
        mistake = Mistake { file: None, line: None, key: "RUSSET__X".into(), ..mistake };
        assert_eq!(mistake.to_string(), "RUSSET__X: there is no such key");
    }
}
