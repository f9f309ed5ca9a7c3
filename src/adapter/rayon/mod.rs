//! Tasks on rayon: parallel iterators whose items cannot see each other's slots.
//!
//! [`ParallelIteratorExt::isolated`] makes a task of every item of a parallel iterator;
//! [`join`], [`scope`], [`spawn`], [`broadcast`] and [`install`] are rayon's functions of that name with
//! a task of every closure; [`RayonPool`] maps like the crate's own pool does. The page
//! `docs/rayon.md` says which closures of a chain are covered, and which are not.
//!
//! # How an item becomes a task
//!
//! Items do not nest lexically: two zipped iterators take turns, and a closure upstream of the
//! isolation runs before the isolation hears of its item. So an item's task is not a call; it is what
//! runs between two *boundaries*. A folder, or a producer's iterator, holds a loose frame
//! open and ends a task whenever it is asked for the next item, or told that there is none.
//!
//! | mechanism | file |
//! |---|---|
//! | the iterator, and where a drive begins | `isolated` |
//! | adapters pushed below the isolation | `reshape` |
//! | items that are pushed: splitting, reducing | `consumer` |
//! | the same, one after the other | `folder` |
//! | items that are pulled: splitting | `producer` |
//! | the same, one after the other | `items` |
//! | pieces of work that are calls | `task`, `join`, `scope`, `spawn`, `pool` |

mod consumer;
mod error;
mod folder;
mod isolated;
mod items;
mod join;
mod pool;
mod producer;
mod reshape;
mod scope;
mod spawn;
mod task;

pub use error::CarriersRefused;
pub use isolated::{Isolated, ParallelIteratorExt};
pub use join::{install, install_in, join, join_in};
pub use pool::RayonPool;
pub use scope::{Scope, scope, scope_in};
pub use spawn::{broadcast, broadcast_in, spawn, spawn_in};
