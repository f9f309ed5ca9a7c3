//! How much of its stack a thread has left: what it runs while it waits lies on top of what waits.

use std::cell::Cell;

/// What std gives a thread unless it is told otherwise, on every platform with threads.
const DEFAULT: usize = 2 << 20;
/// The smallest stack of a worker: on less, tasks could not even begin to nest, and nobody could
/// say how much is left where the system rounds up.
const LEAST: usize = 128 << 10;

#[derive(Clone, Copy)]
struct Stack {
    /// The address of something at its beginning.
    begin: usize,
    /// Its size in bytes, or 0 if nothing is known.
    size: usize,
}

thread_local! {
    static STACK: Cell<Stack> = const { Cell::new(Stack { begin: 0, size: 0 }) };
}

/// Lists what this module keeps per thread, for the sentinel to leave out.
#[cfg(feature = "sentinel")]
pub(super) fn list(ignored: &mut cleanslate_sentinel::Ignored) {
    ignored.key(&STACK);
}

/// Returns the size of the stacks if `asked` was asked for. If nobody has chosen, it is what the
/// environment says, or the default.
pub(crate) fn size(asked: Option<usize>) -> usize {
    let chosen = || std::env::var("RUST_MIN_STACK").ok().and_then(|text| text.parse().ok());
    asked.or_else(chosen).unwrap_or(DEFAULT).max(LEAST)
}

/// Notes that this thread, which has just begun, has a stack of `size` bytes.
pub(crate) fn begin(size: usize) {
    STACK.set(Stack { begin: address(), size });
}

/// Notes that the outermost task of a plain thread begins here. Nobody knows what is left of its
/// stack: it is assumed to be what std gives a thread.
#[inline]
pub(crate) fn begin_plain() {
    begin(DEFAULT);
}

/// Returns whether one part in `parts` of the stack is left, as far as that is known.
#[inline]
pub(crate) fn is_left(parts: usize) -> bool {
    let Stack { begin, size } = STACK.get();
    // A plain thread may have begun its last task deeper than it is now: stacks grow downwards.
    let used = begin.saturating_sub(address());
    // Loom's threads have stacks of its own.
    cfg!(loom) || size == 0 || used < size - size / parts
}

/// Returns the address that the stack has reached.
#[inline]
fn address() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&here)).addr()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Uses this many bytes of the stack, and then asks.
    fn deeper(bytes: usize) -> bool {
        let block = std::hint::black_box([0_u8; 4 << 10]);
        let used = STACK.get().begin - address();
        if used >= bytes { is_left(4) } else { deeper(bytes) && block[0] == 0 }
    }

    #[test]
    fn a_quarter_is_left_until_three_are_used() {
        let size = 1 << 20;
        let thread = std::thread::Builder::new().stack_size(2 * size).spawn(move || {
            assert!(is_left(4), "nothing is known");
            begin(size);
            (is_left(4), deeper(size / 2), deeper(size * 7 / 8))
        });
        assert_eq!(thread.unwrap().join().unwrap(), (true, true, false));
    }
}
