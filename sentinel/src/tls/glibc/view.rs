//! The calling thread's blocks, and which of their bytes are watched.
//!
//! - **B1 (one thread).** [`View`] is neither `Send` nor `Sync`, so every method runs on the thread
//!   whose blocks it holds, and before that thread's storage is given back, which is after the last
//!   Rust destructor.
//! - **B2 (proof).** A [`Block`] is made by [`census`](super::census) alone, which proves that the
//!   thread's entry for the module was this module's, of this size (P2, L3), when the vector had
//!   reached the view's generation.
//! - **B3 (life).** A block is freed only by its own thread: when that thread brings its vector up
//!   to date, which raises the generation, or when it ends. So a block is mapped as long as the
//!   generation is the view's, whatever other threads load and unload. Others may *write* to a
//!   block (through a pointer they were lent), never unmap it.
//! - **B4 (bounds).** [`View::watch`] checks each span against its block, and nothing else stores
//!   spans. Buffers are checked against the spans' end by each method that uses one.

use std::marker::PhantomData;

use super::super::Span;
use super::{foreign, vector};

/// A block whose owner and size are proven (B2).
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) address: usize,
    pub(super) size: usize,
}

/// A module for which the thread had no block.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) id: usize,
    /// What the vector had for it. That changes when the thread gets a block.
    pub(super) entry: Option<usize>,
    /// Whether the entry is the last one that the vector has room for. The linker does not report a
    /// block there while it has loads to tell the thread of.
    pub(super) may_be_hidden: bool,
}

/// The calling thread's blocks, and which of their bytes are watched.
#[derive(Debug)]
pub(crate) struct View {
    generation: usize,
    blocks: Vec<Block>,
    pending: Vec<Pending>,
    spans: Vec<Span>,
    /// `spans` with addresses instead of modules, in the same order.
    runs: Vec<Run>,
    /// How long a buffer has to be.
    total: usize,
    // B1.
    _here: PhantomData<*mut ()>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    address: usize,
    len: usize,
    at: usize,
}

impl View {
    pub(super) fn new(generation: usize, blocks: Vec<Block>, pending: Vec<Pending>) -> View {
        View {
            generation,
            blocks,
            pending,
            spans: Vec::new(),
            runs: Vec::new(),
            total: 0,
            _here: PhantomData,
        }
    }

    /// Chooses the bytes that are copied and compared.
    ///
    /// # Panics
    ///
    /// Panics if a span does not lie inside its block.
    pub(crate) fn watch(&mut self, spans: Vec<Span>) {
        self.runs.clear();
        self.total = 0;
        for span in &spans {
            let block = self.blocks[span.module];
            let end = span.offset.checked_add(span.len);
            assert!(end.is_some_and(|end| end <= block.size), "a span outside its block");
            let address = block.address + span.offset;
            self.runs.push(Run { address, len: span.len, at: span.at });
            let end = span.at.checked_add(span.len).expect("a buffer fits into memory");
            self.total = self.total.max(end);
        }
        self.spans = spans;
    }

    pub(crate) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Finds the module whose block contains an address, and where in the block it is.
    pub(crate) fn find(&self, address: usize) -> Option<(usize, usize)> {
        let offset_in = |block: &Block| {
            address.checked_sub(block.address).filter(|&offset| offset < block.size)
        };
        self.blocks.iter().enumerate().find_map(|(place, block)| Some((place, offset_in(block)?)))
    }

    /// Returns whether two views hold the same block of a module, which each has at its own place.
    pub(crate) fn shares_block(&self, module: usize, other: &View, others: usize) -> bool {
        self.blocks[module].address == other.blocks[others].address
    }

    /// Returns whether the block of a module may have been there when `earlier` was made, though it
    /// was not listed.
    pub(crate) fn was_hidden(&self, module: usize, id: usize, earlier: &View) -> bool {
        let address = self.blocks[module].address;
        let is_it = |it: &Pending| it.may_be_hidden && it.id == id && it.entry == Some(address);
        earlier.pending.iter().any(is_it)
    }

    /// Returns whether the thread still has exactly the blocks that it had.
    #[inline]
    fn is_current(&self) -> bool {
        vector::generation() == self.generation
            && self.pending.iter().all(|module| vector::entry(module.id) == module.entry)
    }

    /// Copies the watched bytes, unless the blocks changed; returns whether it did.
    ///
    /// # Panics
    ///
    /// Panics if `to` is shorter than the spans need.
    #[inline]
    pub(crate) fn copy(&self, to: &mut [u8]) -> bool {
        assert!(to.len() >= self.total);
        if !self.is_current() {
            return false;
        }
        for run in &self.runs {
            // SAFETY: `at` is inside `to` by the assertion and `watch` (B4).
            let to = unsafe { to.as_mut_ptr().add(run.at) };
            // SAFETY: the run lies in a block of this thread (B1, B2, B4) that is mapped (B3); `to`
            // is writable for as many bytes (B4), and an exclusive borrow, while no part of a
            // thread-local is lent to us.
            unsafe { foreign::copy(run.address, to, run.len) };
        }
        true
    }

    /// Returns whether the blocks are still the same, and the watched bytes equal a copy made
    /// earlier.
    ///
    /// # Panics
    ///
    /// Panics if `since` is shorter than the spans need.
    #[inline]
    pub(crate) fn is_unchanged(&self, since: &[u8]) -> bool {
        assert!(since.len() >= self.total);
        if !self.is_current() {
            return false;
        }
        for run in &self.runs {
            // SAFETY: `at` is inside `since` by the assertion and `watch` (B4).
            let old = unsafe { since.as_ptr().add(run.at) };
            // SAFETY: the run lies in a block of this thread (B1, B2, B4) that is mapped (B3);
            // `old` is readable for as many bytes (B4) and borrowed.
            if !unsafe { foreign::is_equal(run.address, old, run.len) } {
                return false;
            }
        }
        true
    }
}
