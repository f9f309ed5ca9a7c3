//! Hooks of a pool, which use slots, submit work and panic.

use std::panic::resume_unwind;
use std::sync::Weak;

use cleanslate::PoolBuilder;

use super::carrier::AMBIENT;
use super::game::{Game, Random, worth};
use super::{DEPTH, EXTRA, NUMBER, TENANT};

/// Gives a pool some hooks.
pub(super) fn with_hooks(
    builder: PoolBuilder,
    random: &mut Random,
    game: &Weak<Game>,
) -> PoolBuilder {
    let [start, stop, failure] = [(); 3].map(|()| game.clone());
    let mut builder = builder;
    if random.below(3) == 0 {
        builder = builder.on_worker_start(move |_| {
            AMBIENT.set(9);
            hook(&start);
        });
    }
    if random.below(2) == 0 {
        builder = builder.on_worker_stop(move |_| hook(&stop));
    }
    if random.below(2) == 0 {
        builder = builder.panic_hook(move |_| hook(&failure));
    }
    builder
}

fn hook(game: &Weak<Game>) {
    let is_fresh = NUMBER.replace(1) == 0 && DEPTH.replace(1) == 0 && worth(&TENANT) == 0;
    // There is none while its pools are made.
    let Some(game) = game.upgrade() else { return };
    game.check(is_fresh, "a hook is fresh");
    TENANT.set(Some(game.token(1)));
    let here = game.clone();
    let _refused = game.pools[1].detached().try_submit(move || {
        here.check(NUMBER.get() == 0 && worth(&TENANT) == 0, "a hook's task is fresh");
        EXTRA.set(Some(here.token(0)));
    });
    if game.another_seed() % 2 == 0 {
        resume_unwind(Box::new("a hook, on purpose"));
    }
}
