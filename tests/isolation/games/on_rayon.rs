//! The tasks that a task of a game causes on rayon. They use no pool: its tasks may wait for them.

use cleanslate::rayon::{Isolated, ParallelIteratorExt, RayonPool, join};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::end::End;
use super::{Place, Start, Task};

impl Task {
    fn start_on_rayon(&self) -> Start {
        Start { place: Place::Rayon, ..self.start(None) }
    }

    pub(super) fn cause_on_rayon(&mut self) {
        let seed = self.random.any();
        let seeds = self.calm_seeds();
        let start = self.start_on_rayon();
        let play = |seed: u64| start.play(seed);
        let (context, given) = self.any_context();
        // Sometimes it is among them.
        let sought = seeds.get(self.random.below(5) as usize).copied();
        let chain = || -> Isolated<_> { seeds.clone().into_par_iter().isolated() };
        let found = match self.random.below(8) {
            0 => chain().map(play).collect(),
            1 => chain().map(play).fold(Vec::new, with).reduce(Vec::new, |a, b| [a, b].concat()),
            2 => {
                let first = self.start_on_rayon().that_may_fail();
                let both = || join(|| first.play(seed), || start.play_another()).0;
                return self.game.calls(seed, both);
            }
            3 => {
                let found = chain().map(play).find_any(|&found| {
                    start.play_another();
                    Some(found) == sought
                });
                return self.check(found == sought, "what is sought is found");
            }
            4 => {
                let failed = chain().map(play).try_for_each(|found| {
                    start.play_another();
                    if Some(found) == sought { Err(found) } else { Ok(()) }
                });
                return self.check(failed.err() == sought, "what fails is returned");
            }
            5 => {
                let start = Start { inherited: given, ..start };
                let pool = RayonPool::global().in_context(&context);
                pool.map(seeds.clone(), |seed| start.play(seed))
            }
            6 => {
                let mut found = vec![0; seeds.len()];
                RayonPool::global().in_place_scope(|s| {
                    for (&seed, place) in seeds.iter().zip(&mut found) {
                        let start = self.start_on_rayon();
                        s.spawn(move |_| *place = start.play(seed));
                        self.moves(1);
                    }
                });
                found
            }
            _ => {
                let visits = RayonPool::global().broadcast(|| start.play_another());
                let all = visits.len() == rayon::current_num_threads();
                return self.check(all, "each thread is visited once");
            }
        };
        for &seed in &found {
            self.game.ended(seed, End::Returned(seed));
        }
        self.check(found == seeds, "rayon returns all results in order");
    }
}

fn with(mut all: Vec<u64>, one: u64) -> Vec<u64> {
    all.push(one);
    all
}
