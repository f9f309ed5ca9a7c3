//! The immutable set of inherited values that a context shares with its tasks.

use std::any::Any;
use std::sync::Arc;

use crate::panic::Drops;

/// A slot's copy in a snapshot, an [`Alone`](super::Alone).
pub(crate) type Copied = Arc<dyn Any + Send + Sync>;

/// What a context needs to know of an inheritable slot, whatever its type. Slots are told apart by
/// the address of their declaration.
pub(crate) trait Inheritance: Sync {
    /// Returns the slot's path.
    fn name(&self) -> &'static str;
    /// Returns whether a task's value differs from its submitter's (`with = f`).
    fn derives(&self) -> bool;
    /// Returns whether the current task has touched the slot.
    fn is_touched(&self) -> bool;
    /// Copies the current task's value. Returns `Ok(None)` if it holds none.
    fn copy_current(&self) -> Result<Option<Copied>, Borrowed>;
    /// Makes the current task hold its own value, if it inherits one and has not touched it yet.
    fn materialise(&self);
}

/// A value could not be copied, since the `with_mut` of the slot with this name is running.
#[derive(Debug)]
pub(crate) struct Borrowed(pub(crate) &'static str);

/// One slot's copy.
#[derive(Clone)]
pub(crate) struct Item {
    pub(crate) slot: &'static dyn Inheritance,
    pub(crate) copied: Copied,
    /// Whether a task's value is a clone of the copy even if the slot derives, since the value was
    /// given, not captured.
    pub(crate) is_given: bool,
}

impl Item {
    pub(crate) fn is_of(&self, slot: &dyn Inheritance) -> bool {
        std::ptr::addr_eq(self.slot, slot)
    }
}

/// Copies whose drops are contained one by one, since they are user code.
#[derive(Default)]
pub(crate) struct Items(Vec<Item>);

impl Items {
    pub(crate) fn push(&mut self, item: Item) {
        self.0.push(item);
    }
}

impl Drop for Items {
    fn drop(&mut self) {
        let mut drops = Drops::default();
        for item in self.0.drain(..) {
            drops.contain(|| drop(item));
        }
        drops.resume();
    }
}

/// The inherited values of a context. Never empty, never changed.
pub(crate) struct Snapshot {
    items: Items,
    /// Whether some slot derives, so that a task that captures makes values of its own first (R7).
    derives: bool,
}

impl Snapshot {
    /// Returns a snapshot of `items`, if there are any.
    pub(crate) fn new(items: Items) -> Option<Arc<Self>> {
        let derives = items.0.iter().any(|item| item.slot.derives());
        (!items.0.is_empty()).then(|| Arc::new(Self { items, derives }))
    }

    pub(crate) fn items(&self) -> &[Item] {
        &self.items.0
    }

    pub(crate) fn derives(&self) -> bool {
        self.derives
    }

    pub(crate) fn find(&self, slot: &dyn Inheritance) -> Option<&Item> {
        self.items().iter().find(|item| item.is_of(slot))
    }
}
