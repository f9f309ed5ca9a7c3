//! Tasks on rayon: closures that cannot see each other's slots.
//!
//! [`ParallelIteratorExt::isolated`] makes a task of every call of every closure of a parallel
//! iterator's chain; [`fn@join`], [`fn@scope`], [`fn@spawn`], [`broadcast`] and [`install`] are
//! rayon's functions of the same names with every closure run as a task; [`RayonPool`] maps as the
//! crate's own pool does. The [page for rayon users](crate::guide::from_rayon) says what stands for
//! what.
//!
//! # Importing it
//!
//! `use cleanslate::rayon;` hides the crate `rayon`: `rayon::join` is then the function of this
//! module. Its [`prelude`] includes rayon's, and whatever else you need of the crate is found under
//! `::rayon`. Or import single items, or the module under another name:
//!
//! ```
//! use cleanslate::rayon::{self as tasks, ParallelIteratorExt};
//! use rayon::prelude::*;
//!
//! let (a, b) = tasks::join(|| (0..9).into_par_iter().isolated().map(|n| n + 1).sum(), || 2);
//! assert_eq!((a, b), (45, 2));
//! ```

// | what | file |
// |---|---|
// | a task: one call of one closure | `task` |
// | the isolated iterator | `isolated` |
// | its adaptors: with closures, without, of indexed ones | `adaptors`, `forwarded`, `indexed` |
// | the types that those with closures return | `adapted` |
// | methods that end a chain; closures that may fail | `consume`, `fallible` |
// | functions, the pool and its maps | `join`, `spawn`, `pool`, `map` |
// | scopes: opening one, spawning in it | `scope`, `scoped` |
// | what several tasks have come to | `outcome` |

pub mod adapted;
mod adaptors;
mod consume;
mod fallible;
mod forwarded;
mod indexed;
mod isolated;
mod join;
mod map;
mod outcome;
mod pool;
mod scope;
mod scoped;
mod spawn;
mod task;

/// What `use rayon::prelude::*` brings in, and [`ParallelIteratorExt`].
///
/// # Examples
///
/// ```
/// use cleanslate::rayon::{self, prelude::*};
///
/// let (a, b) = rayon::join(|| (0..9).into_par_iter().isolated().map(|n| n + 1).sum(), || 2);
/// assert_eq!((a, b), (45, 2));
/// ```
pub mod prelude {
    pub use super::ParallelIteratorExt;
    pub use ::rayon::prelude::*;
}

pub use fallible::Try;
pub use isolated::{Isolated, ParallelIteratorExt};
pub use join::{broadcast, install, join, join_context};
pub use pool::RayonPool;
pub use scope::{in_place_scope, in_place_scope_fifo, scope, scope_fifo};
pub use scoped::{Scope, ScopeFifo};
pub use spawn::{spawn, spawn_broadcast, spawn_fifo};
