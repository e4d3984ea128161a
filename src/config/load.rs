//! Finds `russet.toml`, reads it with the overrides of the environment, and tells every mistake.
//!
//! Every command calls [`find`] and [`read()`]. INTERFACE sections 1, 2 and 7: an empty or absent file
//! is valid, an unknown key is an error with its line, and `RUSSET__TABLE__KEY` overrides any key.
//!
//! **Invariant:** loading reads one file and changes nothing; the environment is passed in.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::mistake::nearest;
use super::settings::{Place, Settings, Written};
use super::{Config, Mistake, Mistakes, tables};

/// What the name of every override begins with.
const PREFIX: &str = "RUSSET__";

/// Far beyond any configuration; a larger file is the wrong file.
const LARGEST_FILE: usize = 1 << 20;

/// The configuration file: `--config`, then `RUSSET_CONFIG`, then `./russet.toml`, then
/// `/etc/russet/russet.toml`. The first two are answered whether or not the file is there, so that
/// [`read()`] says that it is missing; `None` means that the defaults apply.
pub fn find(cli: Option<&Path>) -> Option<PathBuf> {
    let variable = std::env::var_os("RUSSET_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    let usual = || ["./russet.toml", "/etc/russet/russet.toml"].into_iter().map(PathBuf::from);
    cli.map(Path::to_owned).or(variable).or_else(|| usual().find(|path| path.exists()))
}

/// The environment of this process, for [`read()`] and [`overrides`].
pub fn environment() -> impl Iterator<Item = (String, String)> {
    // `std::env::vars` would panic on bytes that are not UTF-8, in whatever variable.
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}

/// The names of the variables that override a setting, in order.
pub fn overrides(environment: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let names: BTreeSet<String> =
        environment.map(|(name, _)| name).filter(|name| name.starts_with(PREFIX)).collect();
    names.into_iter().collect()
}

/// What was read, with everything that there is to say of it.
pub struct Reading {
    /// Where there are mistakes, defaults stand in for what is wrong.
    pub config: Config,
    /// Every mistake that shows without opening another file, in order.
    pub mistakes: Mistakes,
    /// What is allowed and hardly meant.
    pub warnings: Vec<Mistake>,
    pub(super) settings: Settings,
}

/// Reads the configuration: defaults, then the file, then the overrides.
///
/// The error is the file itself: missing, or not to be read by this user.
pub fn read(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Reading, Mistake> {
    let (text, refused) = match file.map(contents).transpose()? {
        Some(Ok(text)) => (text, None),
        Some(Err(mistake)) => (String::new(), Some(mistake)),
        None => (String::new(), None),
    };
    let mut reading = understand(&text, file, environment);
    if let Some(refused) = refused {
        reading.mistakes.0.insert(0, refused);
    }
    Ok(reading)
}

/// As [`read()`], for who can use nothing but a configuration without a mistake.
pub fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Config, Mistakes> {
    read(file, environment).map_err(|mistake| Mistakes(vec![mistake]))?.done()
}

impl Reading {
    /// The configuration, if it has no mistake.
    pub fn done(self) -> Result<Config, Mistakes> {
        if self.mistakes.0.is_empty() { Ok(self.config) } else { Err(self.mistakes) }
    }
}

impl Default for Config {
    fn default() -> Self {
        tables::config(&mut Settings::of(None))
    }
}

/// As [`load()`], of a text that was read already; `file` is where its relative paths begin.
pub fn parse(
    text: &str,
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Config, Mistakes> {
    understand(text, file, environment).done()
}

fn understand(
    text: &str,
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Reading {
    let mut settings = Settings::of(file);
    let keys = keys();
    let (table, errors) = DeTable::parse_recoverable(text);
    let place = |offset| Place::Line(line(text, offset));
    write_table(&mut settings, &keys, "", table.get_ref(), &place);
    write_overrides(&mut settings, &keys, environment);
    let config = tables::config(&mut settings);

    let mut mistakes = std::mem::take(&mut settings.mistakes);
    if errors.is_empty() {
        mistakes.append(&mut settings.contradictions);
    } else {
        // What the parser made of a broken line is no mistake of its own.
        let broken: BTreeSet<Option<usize>> = errors.iter().map(|error| error_line(text, error)).collect();
        mistakes.retain(|mistake| mistake.file.is_none() || !broken.contains(&mistake.line));
        mistakes.extend(errors.iter().map(|error| Mistake {
            file: file.map(Path::to_owned),
            line: error_line(text, error),
            key: String::new(),
            words: format!("this is not TOML: {}; correct the line", error.message()),
        }));
    }
    let warnings = std::mem::take(&mut settings.warnings);
    Reading { config, mistakes: Mistakes::sorted(mistakes), warnings, settings }
}

/// The settings that exist: those that are asked for.
fn keys() -> Vec<&'static str> {
    let mut settings = Settings::of(None);
    tables::config(&mut settings);
    settings.known.into_keys().collect()
}

/// Writes down a table's settings, and those of the tables in it, unless there are no such settings.
fn write_table(
    settings: &mut Settings,
    keys: &[&'static str],
    table: &str,
    values: &DeTable<'_>,
    place: &dyn Fn(usize) -> Place,
) {
    for (name, value) in values {
        let key =
            if table.is_empty() { name.get_ref().to_string() } else { format!("{table}.{}", name.get_ref()) };
        if keys.contains(&key.as_str()) {
            settings.write(&key, Written::toml(value, place));
        } else if !is_table(keys, &key) {
            settings.mistake(&key, &place(name.span().start), unknown(keys, &key));
        } else if let DeValue::Table(values) = value.get_ref() {
            write_table(settings, keys, &key, values, place);
        } else {
            let words = format!("`{key}` is a table; write [{key}] on a line of its own and its keys below");
            settings.mistake(&key, &place(name.span().start), words);
        }
    }
}

fn write_overrides(
    settings: &mut Settings,
    keys: &[&'static str],
    environment: impl Iterator<Item = (String, String)>,
) {
    let mut variables: Vec<(Vec<String>, String, String)> = environment
        .filter_map(|(name, value)| {
            let path = name.strip_prefix(PREFIX)?.split("__").map(str::to_ascii_lowercase).collect();
            Some((path, name, value))
        })
        .collect();
    // A table before the settings in it, so that the more exact override holds.
    variables.sort_by(|(a, ..), (b, ..)| (a.len(), a).cmp(&(b.len(), b)));
    for (path, variable, value) in variables {
        let key = path.join(".");
        let place = |_| Place::Variable(variable.clone());
        if keys.contains(&key.as_str()) {
            settings.write(&key, Written::bare(&variable, &value));
        } else if !is_table(keys, &key) {
            settings.mistake(&key, &place(0), unknown(keys, &key));
        } else if let Ok(DeValue::Table(values)) = DeValue::parse(value.trim()).map(toml::Spanned::into_inner)
        {
            settings.forget_table(&key);
            write_table(settings, keys, &key, &values, &place);
        } else {
            settings.mistake(
                &key,
                &place(0),
                format!("`{key}` is a table; write it in TOML, e.g. {{ key = \"…\" }}"),
            );
        }
    }
}

fn is_table(keys: &[&'static str], table: &str) -> bool {
    keys.iter().any(|key| key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.')))
}

/// What to say of a key that does not exist: the nearest one, the table it belongs in, or the keys
/// that there are.
fn unknown(keys: &[&'static str], wrong: &str) -> String {
    let (table, name) = wrong.rsplit_once('.').unwrap_or(("", wrong));
    let names: BTreeSet<&str> = keys
        .iter()
        .filter_map(|key| match table {
            "" => Some(*key),
            _ => key.strip_prefix(table)?.strip_prefix('.'),
        })
        .map(|rest| rest.split('.').next().unwrap_or(rest))
        .collect();
    if let Some(near) = nearest(name, names.iter().copied()) {
        return format!("there is no such key; did you mean `{near}`?");
    }
    let elsewhere = keys.iter().find_map(|key| key.rsplit_once('.').filter(|(_, last)| *last == name));
    if let Some((table, _)) = elsewhere {
        return format!("there is no such key here; `{name}` belongs in the table [{table}]");
    }
    let names: Vec<&str> = names.into_iter().collect();
    format!("there is no such key; the keys here are {}; correct it or take it away", names.join(", "))
}

/// The text of the file, or what is wrong with it as a text; the outer error is that it cannot be read.
fn contents(file: &Path) -> Result<Result<String, Mistake>, Mistake> {
    let mistake = |line, words| Mistake { file: Some(file.to_owned()), line, key: String::new(), words };
    let bytes = std::fs::read(file).map_err(|error| unreadable(file, &error))?;
    if bytes.len() > LARGEST_FILE {
        return Ok(Err(mistake(
            None,
            "the file is larger than 1 MiB; this cannot be a configuration".into(),
        )));
    }
    Ok(String::from_utf8(bytes).map_err(|error| {
        let (valid, _) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        mistake(Some(line), "the line is not UTF-8; save the file as UTF-8".into())
    }))
}

fn unreadable(file: &Path, error: &std::io::Error) -> Mistake {
    let words = match error.kind() {
        ErrorKind::NotFound => "there is no such file; correct --config or RUSSET_CONFIG, or write the file (an empty one is valid)".into(),
        ErrorKind::PermissionDenied => "this user may not read the file; change its owner or mode".into(),
        ErrorKind::IsADirectory => "this is a folder; write the path of the file in it".into(),
        _ => format!("the file cannot be read: {error}"),
    };
    Mistake { file: Some(file.to_owned()), line: None, key: String::new(), words }
}

fn error_line(text: &str, error: &toml::de::Error) -> Option<usize> {
    error.span().map(|span| line(text, span.start))
}

/// The line of a byte, counted from 1.
fn line(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests;
