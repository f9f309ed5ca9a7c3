//! [`Wire`]: which slots travel, under which names.

use std::borrow::Cow;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use apalis_core::task::metadata::MetadataStore;
use cleanslate::{Context, TaskLocal};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::baggage;
use crate::captured::{self, Captured, size};
use crate::error::{CaptureError, RestoreError, TooLarge};

/// The slots that travel with jobs, each under a name of its own: an allow-list.
///
/// Sender and worker need not be the same program. They agree on names and types: a name that a
/// wire does not know is ignored, a slot whose name is missing keeps its default. So a slot may be
/// added to one side first.
///
/// # Examples
///
/// ```
/// use apalis_core::task::metadata::{Metadata, MetadataStore};
/// use cleanslate::task_local;
/// use cleanslate_jobs::Wire;
///
/// task_local! {
///     #[inherit]
///     static LANG: String = "en".to_owned();
///     #[inherit(with = |hops| hops + 1)]
///     static HOPS: u32 = 0;
/// }
///
/// let wire = Wire::new().slot("lang", &LANG).slot("hops", &HOPS);
/// HOPS.set(0);
/// let mut metadata = MetadataStore::new();
/// wire.capture()?.inject(&mut metadata)?;
///
/// // `LANG` was not set; the function of `HOPS` has run once.
/// assert_eq!((metadata.len(), metadata.get("cleanslate.hops")), (1, Some("1")));
/// assert_eq!(wire.restore(&metadata)?.run(|| (LANG.get(), HOPS.get())), ("en".to_owned(), 1));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Wire {
    slots: Vec<Named>,
    limit: usize,
}

#[derive(Clone)]
struct Named {
    name: &'static str,
    key: Arc<str>,
    slot: &'static dyn Slot,
}

/// What a wire needs of a slot, whatever its type.
trait Slot: Sync {
    /// Returns whether the current task holds anything.
    fn is_set(&self) -> bool;

    /// Encodes what the current task holds, if that can be decoded again.
    fn encode(&self) -> Result<String, serde_json::Error>;

    /// Gives the decoded value to a context.
    fn decode(&'static self, text: &str, context: Context) -> Result<Context, serde_json::Error>;
}

impl<T: Serialize + DeserializeOwned + Send + 'static> Slot for TaskLocal<T> {
    fn is_set(&self) -> bool {
        TaskLocal::is_set(self)
    }

    fn encode(&self) -> Result<String, serde_json::Error> {
        let text = self.with(serde_json::to_string)?;
        // JSON has no infinite numbers, and what is nested too deep only shows here.
        match serde_json::from_str::<T>(&text) {
            Ok(_) => Ok(text),
            Err(error) => {
                let words = format!("what it encodes to does not decode again: {error}");
                Err(serde::ser::Error::custom(words))
            }
        }
    }

    fn decode(&'static self, text: &str, context: Context) -> Result<Context, serde_json::Error> {
        Ok(context.with(self, serde_json::from_str(text)?))
    }
}

impl Wire {
    /// Returns a wire without slots, with a limit of 8,192 bytes.
    #[must_use]
    pub const fn new() -> Self {
        Self { slots: Vec::new(), limit: 8192 }
    }

    /// Lets an inheritable slot travel, under a name that sender and worker agree on.
    ///
    /// # Panics
    ///
    /// Panics if the slot [is not inherited](TaskLocal::is_inherited), if the name is taken, or if
    /// it is no *token* of HTTP: one or more letters, digits, or characters of ``!#$%&'*+-.^_`|~``.
    #[track_caller]
    #[must_use = "the wire with the slot is returned"]
    pub fn slot<T>(mut self, name: &'static str, slot: &'static TaskLocal<T>) -> Self
    where
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        assert!(slot.is_inherited(), "slot `{}` is not inherited", slot.name());
        assert!(baggage::is_token(name), "`{name}` is no name for a slot on a wire");
        let is_taken = self.slots.iter().any(|other| other.name == name);
        assert!(!is_taken, "the wire has a slot `{name}` already");
        self.slots.push(Named { name, key: captured::key(name).into(), slot });
        self
    }

    /// Sets how many bytes keys and values may take together.
    ///
    /// The queue stores them with every job. Both sides check: what one of them refuses to send,
    /// the other refuses to decode.
    #[must_use = "the wire with the limit is returned"]
    pub const fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// Captures what a child of the current task would start with.
    ///
    /// Slots that the task has not set are left out. The function of an `#[inherit(with = f)]` slot
    /// runs here, and not again on the other side. Costs what [`Context::capture`] does, and a
    /// copy, an encoding and a decoding for each slot of the wire that is set.
    ///
    /// What JSON does not tell apart arrives as the same: `Some(())`, or an infinite number in an
    /// `Option`, as `None`.
    ///
    /// # Errors
    ///
    /// If there is nothing to capture, as with [`Context::try_capture`]; if a value does not encode
    /// as JSON that decodes again, such as a number that is infinite; or if the whole is larger
    /// than the limit. The last two name the slot.
    ///
    /// # Panics
    ///
    /// Panics if the `Clone`, the `Serialize` or the `Deserialize` of a value panics, or the
    /// function of its `#[inherit(with = f)]`.
    pub fn capture(&self) -> Result<Captured, CaptureError> {
        let context = Context::try_capture()?;
        let is_set = |named: &&Named| named.slot.is_set();
        let set: Vec<_> = context.try_run(|| self.slots.iter().filter(is_set).collect())?;
        let mut captured = Captured::default();
        for Named { name, slot, .. } in set {
            // Each in a task of its own, so that `f` runs, and what it or serialising leaves in
            // other slots is gone.
            let encoded = context.try_run(|| slot.encode())?;
            captured.push(name, encoded.map_err(|error| CaptureError::encode(name, error))?);
        }
        within(self.limit, captured.iter().map(|(name, text)| (name, size(name, text))))?;
        Ok(captured)
    }

    /// Makes a context of a job's metadata, in which each slot of the wire that it names has the
    /// value that was captured.
    ///
    /// Anything else in the metadata is ignored. The values are untrusted input.
    ///
    /// # Errors
    ///
    /// If a value does not decode to its slot's type, or its `Deserialize` panics, or if all of
    /// them are larger than the limit. Each names the slot. Also if a carrier of the process fails,
    /// or the clean-up of what a `Deserialize` has left in slots.
    pub fn restore(&self, metadata: &MetadataStore) -> Result<Context, RestoreError> {
        let found = self.slots.iter().filter_map(|named| {
            let text = metadata.get(&named.key)?;
            Some((named, Cow::Borrowed(text)))
        });
        self.decode(found.collect())
    }

    /// Captures like [`capture`](Self::capture), as the value of the `baggage` header of W3C, so
    /// that a context crosses HTTP calls as well. Empty if no slot is set: then send no header.
    ///
    /// Each slot is a member with the slot's name as its key and its JSON, percent-encoded, as its
    /// value.
    ///
    /// # Errors
    ///
    /// As [`capture`](Self::capture). Also if there are more than 64 members or more than 8,192
    /// bytes: those who pass the header on may drop what is beyond.
    ///
    /// # Panics
    ///
    /// As [`capture`](Self::capture).
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanslate::task_local;
    /// use cleanslate_jobs::Wire;
    ///
    /// task_local! {
    ///     #[inherit]
    ///     static TENANT: String = "nobody".to_owned();
    /// }
    ///
    /// let wire = Wire::new().slot("tenant", &TENANT);
    /// let header = TENANT.scope("acme".to_owned(), || wire.capture_baggage())?;
    /// assert_eq!(header, "tenant=%22acme%22");
    /// assert_eq!(wire.restore_baggage(&header)?.run(|| TENANT.get()), "acme");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn capture_baggage(&self) -> Result<String, CaptureError> {
        let captured = self.capture()?;
        let mut header = String::new();
        let sizes = captured.iter().map(|(name, text)| {
            let before = header.len();
            baggage::push(&mut header, name, text);
            (name, header.len() - before)
        });
        within(baggage::MOST_BYTES, sizes)?;
        baggage::members(&header)?;
        Ok(header)
    }

    /// Makes a context of the value of a `baggage` header, as [`restore`](Self::restore) does of a
    /// job's metadata. It is as untrusted.
    ///
    /// Members of others, properties of members, and what is no member are ignored; of members with
    /// the same key the last counts. Several headers are one, joined by commas.
    ///
    /// # Errors
    ///
    /// As [`restore`](Self::restore), and if the header is longer than 8,192 bytes or has more than
    /// 64 members.
    pub fn restore_baggage(&self, header: &str) -> Result<Context, RestoreError> {
        let members = baggage::members(header)?;
        let found = self.slots.iter().filter_map(|named| {
            let (_, value) = members.iter().rev().find(|(key, _)| *key == named.name)?;
            Some((named, baggage::decode(value)))
        });
        self.decode(found.collect())
    }

    fn decode(&self, found: Vec<(&Named, Cow<'_, str>)>) -> Result<Context, RestoreError> {
        within(self.limit, found.iter().map(|(named, text)| (named.name, size(named.name, text))))?;
        let nothing = Context::empty();
        found.into_iter().try_fold(Context::empty(), |context, (named, text)| {
            // What deserialising leaves in slots is gone.
            let decode = || nothing.try_run(|| named.slot.decode(&text, context));
            let decoded = catch_unwind(AssertUnwindSafe(decode));
            decoded
                .map_err(|payload| RestoreError::panicked(named.name, payload))??
                .map_err(|error| RestoreError::decode(named.name, error))
        })
    }
}

/// Checks the sizes of slots with these names.
fn within<'a>(limit: usize, sizes: impl Iterator<Item = (&'a str, usize)>) -> Result<(), TooLarge> {
    let (mut total, mut largest) = (0, ("", 0));
    for (name, bytes) in sizes {
        total += bytes;
        if bytes > largest.1 {
            largest = (name, bytes);
        }
    }
    let (slot, bytes) = largest;
    if total <= limit { Ok(()) } else { Err(TooLarge { slot: slot.into(), bytes, total, limit }) }
}

impl Default for Wire {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.slots.iter().map(|named| named.name).collect();
        f.debug_struct("Wire").field("slots", &names).field("limit", &self.limit).finish()
    }
}
