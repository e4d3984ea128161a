//! Puts values together while a reader finds them; called by both readers.
//!
//! **Invariant:** depth, number of values and duplicate keys are judged here and nowhere else, before
//! anything is kept.

use super::{Dictionary, MAX_DEPTH, MAX_NODES, PlistError, Value};

/// A list under construction: the collections that are open, outermost first.
#[derive(Default)]
pub(super) struct Builder {
    open: Vec<Collection>,
    nodes: usize,
    done: Option<Value>,
}

enum Collection {
    Array(Vec<Value>),
    Dict { entries: Dictionary, key: Option<String> },
}

impl Builder {
    /// Whether the outermost value is complete.
    pub(super) fn is_done(&self) -> bool {
        self.done.is_some()
    }

    /// Whether the next thing must be a key (or the end of the dictionary).
    pub(super) fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some(Collection::Dict { key: None, .. }))
    }

    /// Opens an array; `capacity` is a hint that the reader has checked against its input.
    pub(super) fn array(&mut self, capacity: usize) -> Result<(), PlistError> {
        self.descend(Collection::Array(Vec::with_capacity(capacity)))
    }

    pub(super) fn dict(&mut self) -> Result<(), PlistError> {
        self.descend(Collection::Dict { entries: Dictionary::new(), key: None })
    }

    /// The key of the value that follows. Only where [`Builder::wants_key`].
    pub(super) fn key(&mut self, name: String) -> Result<(), PlistError> {
        let Some(Collection::Dict { entries, key }) = self.open.last_mut() else {
            return Err(PlistError::Malformed { what: "a key outside a dictionary", offset: 0 });
        };
        if entries.contains_key(&name) {
            // Cut, since the sentence is shown and logged.
            return Err(PlistError::DuplicateKey(name.chars().take(100).collect()));
        }
        *key = Some(name);
        Ok(())
    }

    /// A value without children. Only where not [`Builder::wants_key`].
    pub(super) fn leaf(&mut self, value: Value) -> Result<(), PlistError> {
        self.count()?;
        self.place(value);
        Ok(())
    }

    /// Closes the innermost collection; answers whether there was one that may end here.
    pub(super) fn end(&mut self) -> bool {
        let value = match self.open.pop() {
            Some(Collection::Array(values)) => Value::Array(values),
            Some(Collection::Dict { entries, key: None }) => Value::Dictionary(entries),
            Some(Collection::Dict { key: Some(_), .. }) | None => return false,
        };
        self.place(value);
        true
    }

    pub(super) fn finish(self) -> Option<Value> {
        self.done
    }

    fn descend(&mut self, collection: Collection) -> Result<(), PlistError> {
        self.count()?;
        if self.open.len() >= MAX_DEPTH {
            return Err(PlistError::TooDeep);
        }
        self.open.push(collection);
        Ok(())
    }

    fn count(&mut self) -> Result<(), PlistError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES { Err(PlistError::TooMuch) } else { Ok(()) }
    }

    fn place(&mut self, value: Value) {
        match self.open.last_mut() {
            Some(Collection::Array(values)) => values.push(value),
            Some(Collection::Dict { entries, key }) => {
                if let Some(key) = key.take() {
                    entries.insert(key, value);
                }
            }
            None => self.done = Some(value),
        }
    }
}
