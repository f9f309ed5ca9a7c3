//! [`Captured`].

use std::borrow::Cow;
use std::convert::Infallible;

use apalis_core::task::metadata::{Metadata, MetadataStore};

/// Before the names of slots in a job's metadata, which others write to as well: some storages keep
/// a field `status` or `attempts` in the same map.
const PREFIX: &str = "cleanslate.";

/// The key of a slot in a job's metadata.
pub(crate) fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// The encoded values of slots, as [`Wire::capture`](crate::Wire::capture) returns them.
///
/// It is [`Metadata`] of a job: pass it to `TaskBuilder::metadata`. In the job's map each slot is
/// one entry, `cleanslate.` and the slot's name; entries of the same key are replaced.
///
/// Two are equal if they have the same entries, in whatever order.
#[derive(Clone, Debug, Default)]
pub struct Captured {
    entries: Vec<(Cow<'static, str>, String)>,
}

impl Captured {
    pub(crate) fn push(&mut self, name: &'static str, text: String) {
        self.entries.push((Cow::Borrowed(name), text));
    }

    /// Returns the names of the slots and their encoded values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(name, text)| (&**name, &**text))
    }

    /// Returns whether no slot was set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns how many bytes keys and values take in a job's metadata.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.iter().map(|(name, text)| size(name, text)).sum()
    }
}

impl PartialEq for Captured {
    fn eq(&self, other: &Self) -> bool {
        // Names are unique, and few.
        self.entries.len() == other.entries.len()
            && self.entries.iter().all(|entry| other.entries.contains(entry))
    }
}

impl Eq for Captured {}

/// The bytes of one entry in a job's metadata.
pub(crate) fn size(name: &str, text: &str) -> usize {
    PREFIX.len() + name.len() + text.len()
}

impl Metadata for Captured {
    type Error = Infallible;

    fn extract(store: &MetadataStore) -> Result<Self, Infallible> {
        let slots = store.iter().filter_map(|(key, text)| {
            let name = key.strip_prefix(PREFIX)?;
            Some((Cow::Owned(name.to_owned()), text.clone()))
        });
        Ok(Self { entries: slots.collect() })
    }

    fn inject(&self, store: &mut MetadataStore) -> Result<(), Infallible> {
        store.extend(self.iter().map(|(name, text)| (key(name), text)));
        Ok(())
    }
}
