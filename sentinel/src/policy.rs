//! Rules, and what they mean for each module.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use crate::module::Module;
use crate::plan::Plan;
use crate::probe::Probe;
use crate::rule::Rules;
use crate::verdict::Verdict;

/// How many plans are remembered. A program that keeps loading and unloading modules must not
/// collect their plans without end.
const REMEMBERED: usize = 256;

/// Rules, and what they mean for each module, since that is the same on every thread.
#[derive(Debug)]
pub(super) struct Policy {
    rules: Rules,
    pub(super) probes: Vec<Probe>,
    plans: Mutex<Vec<Arc<Plan>>>,
}

impl Policy {
    /// Returns the policy of the built-in rules, shared by all who add none.
    pub(super) fn built_in() -> Arc<Policy> {
        static BUILT_IN: LazyLock<Arc<Policy>> =
            LazyLock::new(|| Arc::new(Policy::new(Rules::built_in(), Probe::built_in())));
        Arc::clone(&BUILT_IN)
    }

    pub(super) fn new(rules: Rules, probes: Vec<Probe>) -> Policy {
        Policy { rules, probes, plans: Mutex::default() }
    }

    pub(super) fn add(&mut self, pattern: &str, verdict: Verdict) {
        self.rules.add(pattern, verdict);
        self.plans.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Applies the rules to a module, or returns the remembered plan.
    pub(super) fn plan(&self, module: &Arc<Module>) -> Arc<Plan> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = plans.iter().find(|plan| Arc::ptr_eq(plan.module(), module)) {
            return Arc::clone(plan);
        }
        let plan = Arc::new(Plan::new(Arc::clone(module), &self.rules));
        if plans.len() >= REMEMBERED {
            plans.clear();
        }
        plans.push(Arc::clone(&plan));
        plan
    }
}

impl Clone for Policy {
    /// Copies the rules in order to add more; the plans would not hold then.
    fn clone(&self) -> Policy {
        Policy::new(self.rules.clone(), self.probes.clone())
    }
}
