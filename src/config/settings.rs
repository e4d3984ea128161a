//! The settings as they were written, before they have types: by name, each with its place.
//!
//! `load` fills it from the file and from the environment; `tables` reads every setting out of it
//! with the type, the default and the check that belong to it. Mistakes gather on the way.
//!
//! **Invariant:** reading never stops at a mistake: the default stands in, so that one pass finds
//! every mistake. Nothing but `load` looks at the values afterwards, and only if there was none.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeValue;

use super::address::Location;
use super::mistake::Mistake;

/// What was written for a setting, with what is needed to say where.
pub(super) struct Written {
    value: Value,
    place: Place,
}

/// Where a setting was written.
#[derive(Clone)]
pub(super) enum Place {
    /// The file, at this line.
    Line(usize),
    /// This environment variable.
    Variable(String),
}

enum Value {
    Text(String),
    Number(Option<u32>),
    Switch(bool),
    List(Vec<Written>),
    /// The text of an environment variable; the reader knows which type it should have.
    Bare(String),
    /// A type that no setting has, by TOML's name.
    Other(&'static str),
}

/// A file that the configuration names, to be looked at by `files`.
pub(super) struct NamedFile {
    pub(super) key: &'static str,
    pub(super) path: PathBuf,
    /// How a PEM block in it has to end its first line; `None` for a file of another kind.
    pub(super) label: Option<&'static str>,
}

/// All settings that were written and not yet read.
pub(super) struct Settings {
    file: Option<PathBuf>,
    /// What relative paths of the file are relative to.
    folder: PathBuf,
    written: BTreeMap<String, Written>,
    /// Every setting that was asked for, with its place if it was written.
    pub(super) known: BTreeMap<&'static str, Option<Place>>,
    /// What is wrong with single settings.
    pub(super) mistakes: Vec<Mistake>,
    /// What is wrong with settings together.
    pub(super) contradictions: Vec<Mistake>,
    /// What is allowed and hardly meant.
    pub(super) warnings: Vec<Mistake>,
    /// The files that will be read, by their setting.
    pub(super) files: Vec<NamedFile>,
    refused: BTreeSet<String>,
}

impl Settings {
    /// No settings yet; those of `file` will be relative to its folder.
    pub(super) fn of(file: Option<&Path>) -> Self {
        Self {
            file: file.map(Path::to_owned),
            folder: file.and_then(Path::parent).map(Path::to_owned).unwrap_or_default(),
            written: BTreeMap::new(),
            known: BTreeMap::new(),
            mistakes: Vec::new(),
            contradictions: Vec::new(),
            warnings: Vec::new(),
            files: Vec::new(),
            refused: BTreeSet::new(),
        }
    }

    /// Adds a setting, in place of an earlier one.
    pub(super) fn write(&mut self, key: &str, written: Written) {
        self.written.insert(key.to_owned(), written);
    }

    /// Forgets a table's settings, because an override replaces the table.
    pub(super) fn forget_table(&mut self, table: &str) {
        self.written.retain(|key, _| !key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.')));
    }

    /// A text that `check` turns into its type.
    pub(super) fn text<T>(
        &mut self,
        key: &'static str,
        default: T,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        self.read(key, default, |written, _| check(&text(written)?))
    }

    /// A text that may be empty, which means that there is none.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.text(key, None, |text| if text.is_empty() { Ok(None) } else { check(text).map(Some) })
    }

    /// A path, made absolute; empty means none.
    pub(super) fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.read(key, None, |written, folder| {
            let text = text(written)?;
            Ok((!text.is_empty()).then(|| absolute(folder, Path::new(&text))))
        })
    }

    /// The folder of the data, which has a default on the disk.
    pub(super) fn folder(&mut self, key: &'static str, default: &str) -> PathBuf {
        let default = absolute(&self.folder, Path::new(default));
        self.read(key, default, |written, folder| match text(written)? {
            text if text.is_empty() => Err("the folder is empty; write its path".into()),
            text => Ok(absolute(folder, Path::new(&text))),
        })
    }

    /// A URL that `check` accepts, or a path.
    pub(super) fn location(
        &mut self,
        key: &'static str,
        default: Option<Location>,
        check: impl Fn(&str) -> Result<String, String>,
    ) -> Option<Location> {
        self.read(key, default, |written, folder| match text(written)? {
            text if text.is_empty() => Ok(None),
            text if text.contains("://") => check(&text).map(|url| Some(Location::Url(url))),
            text => Ok(Some(Location::Path(absolute(folder, Path::new(&text))))),
        })
    }

    /// A whole number within `range`.
    pub(super) fn number(&mut self, key: &'static str, default: u32, range: RangeInclusive<u32>) -> u32 {
        let wanted = format!("write a whole number from {} to {}", range.start(), range.end());
        self.read(key, default, |written, _| {
            let number = match &written.value {
                Value::Number(number) => *number,
                Value::Bare(text) => match parsed(text) {
                    Some(Value::Number(number)) => number,
                    _ => return Err(format!("this is not a number; {wanted}")),
                },
                other => return Err(format!("this is {}; {wanted}", other.kind())),
            };
            number
                .filter(|number| range.contains(number))
                .ok_or_else(|| format!("the number is out of range; {wanted}"))
        })
    }

    /// `true` or `false`.
    pub(super) fn switch(&mut self, key: &'static str, default: bool) -> bool {
        self.read(key, default, |written, _| match &written.value {
            Value::Switch(on) => Ok(*on),
            Value::Bare(text) if text.trim() == "true" => Ok(true),
            Value::Bare(text) if text.trim() == "false" => Ok(false),
            other => Err(format!("this is {}; write true or false, without quotes", other.kind())),
        })
    }

    /// A list of texts; every one that `check` refuses is a mistake at its own line.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        default: Vec<T>,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let Some(Written { value, place }) = self.take(key) else { return default };
        let value = match value {
            Value::Bare(text) => {
                parsed(&text).filter(|value| matches!(value, Value::List(_))).unwrap_or(Value::Bare(text))
            }
            value => value,
        };
        let Value::List(items) = value else {
            let kind = value.kind();
            self.mistake(key, &place, format!("this is {kind}; write a list, e.g. [\"…\", \"…\"]"));
            return default;
        };
        let mut list = Vec::with_capacity(items.len());
        for item in items {
            match text(&item).and_then(|text| check(&text)) {
                Ok(item) => list.push(item),
                Err(words) => {
                    let place = if let Place::Variable(_) = &place { &place } else { &item.place };
                    self.mistake(key, place, words);
                }
            }
        }
        list
    }

    /// Notes that settings contradict each other, at the first of `keys` that was written; not if
    /// one of them was refused already, because its default may only seem to contradict.
    pub(super) fn contradiction(&mut self, keys: &[&'static str], words: impl Into<String>) {
        if keys.iter().any(|key| self.refused.contains(*key)) {
            return;
        }
        let mistake = self.told_at(keys, words.into());
        self.contradictions.push(mistake);
    }

    /// Notes what is allowed and hardly meant, at the first of `keys` that was written.
    pub(super) fn warning(&mut self, keys: &[&'static str], words: impl Into<String>) {
        let warning = self.told_at(keys, words.into());
        self.warnings.push(warning);
    }

    /// Notes that this file will be read.
    pub(super) fn file(&mut self, key: &'static str, path: Option<&Path>, label: Option<&'static str>) {
        self.files.extend(path.map(|path| NamedFile { key, path: path.to_owned(), label }));
    }

    /// Something to say of settings, at the first of them that was written.
    pub(super) fn told_at(&self, keys: &[&'static str], words: String) -> Mistake {
        let written = keys.iter().find_map(|key| Some((*key, self.known.get(key)?.clone()?)));
        match written {
            Some((key, place)) => self.mistake_at(key, &place, words),
            None => {
                let key = keys.first().copied().unwrap_or_default().to_owned();
                Mistake { file: self.file.clone(), line: None, key, words }
            }
        }
    }

    /// Notes a mistake at a place.
    pub(super) fn mistake(&mut self, key: &str, place: &Place, words: impl Into<String>) {
        self.refused.insert(key.to_owned());
        let mistake = self.mistake_at(key, place, words.into());
        self.mistakes.push(mistake);
    }

    fn mistake_at(&self, key: &str, place: &Place, words: String) -> Mistake {
        match place {
            Place::Line(line) => {
                Mistake { file: self.file.clone(), line: Some(*line), key: key.to_owned(), words }
            }
            Place::Variable(name) => Mistake { file: None, line: None, key: name.clone(), words },
        }
    }

    fn read<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl Fn(&Written, &Path) -> Result<T, String>,
    ) -> T {
        let Some(written) = self.take(key) else { return default };
        let folder = match written.place {
            Place::Line(_) => self.folder.as_path(),
            Place::Variable(_) => Path::new(""),
        };
        match read(&written, folder) {
            Ok(value) => value,
            Err(words) => {
                self.mistake(key, &written.place, words);
                default
            }
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Written> {
        let written = self.written.remove(key);
        self.known.insert(key, written.as_ref().map(|written| written.place.clone()));
        written
    }
}

impl Written {
    /// A value of the file, or of the TOML in a variable; `place` turns a byte offset into a place.
    pub(super) fn toml(value: &Spanned<DeValue<'_>>, place: &dyn Fn(usize) -> Place) -> Self {
        let at = place(value.span().start);
        let value = match value.get_ref() {
            DeValue::String(text) => Value::Text(text.to_string()),
            // Digits may have underscores between them; the parser has taken those out.
            DeValue::Integer(digits) => {
                Value::Number(u32::from_str_radix(digits.as_str(), digits.radix()).ok())
            }
            DeValue::Boolean(on) => Value::Switch(*on),
            DeValue::Array(items) => Value::List(items.iter().map(|item| Self::toml(item, place)).collect()),
            other => Value::Other(other.type_str()),
        };
        Self { value, place: at }
    }

    /// The text of an environment variable.
    pub(super) fn bare(variable: &str, text: &str) -> Self {
        Self { value: Value::Bare(text.to_owned()), place: Place::Variable(variable.to_owned()) }
    }
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text in quotes",
            Self::Number(_) => "a number",
            Self::Switch(_) => "true or false",
            Self::List(_) => "a list",
            Self::Bare(_) => "a text without quotes",
            Self::Other("table") => "a table",
            Self::Other("datetime") => "a date or time",
            Self::Other(_) => "a number with a fraction",
        }
    }
}

/// A text in quotes or, from a variable, as it stands there.
fn text(written: &Written) -> Result<String, String> {
    match &written.value {
        Value::Text(text) => Ok(text.clone()),
        Value::Bare(text) => match parsed(text) {
            Some(Value::Text(text)) => Ok(text),
            _ => Ok(text.clone()),
        },
        other => Err(format!("this is {}; write a text in quotes", other.kind())),
    }
}

fn parsed(text: &str) -> Option<Value> {
    let value = DeValue::parse(text.trim()).ok()?;
    Some(Written::toml(&value, &|_| Place::Line(0)).value)
}

/// `path` under `folder` unless it is absolute, from the root of the file system and without `.`;
/// the empty folder is the current directory.
pub(super) fn absolute(folder: &Path, path: &Path) -> PathBuf {
    let path = folder.join(path);
    // Fails only where there is no current directory; the path then fails by itself, with its name.
    std::path::absolute(&path).unwrap_or(path)
}
