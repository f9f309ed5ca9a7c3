//! What every function of a request's task knows, without a parameter.

use std::sync::{Arc, OnceLock};

use axum::extract::Request;
use cleanslate::task_local;

task_local! {
    /// The number of the request that this code works for. Its work on the pool inherits it.
    #[inherit]
    static REQUEST: u64 = 0;
    /// Who asks: nobody, unless the request says so.
    #[inherit]
    static USER: Option<Arc<str>> = None;
    /// What this code has worked for: something that a task of its own must never find.
    static LEFT: Option<Arc<str>> = None;
}

/// The number of the current request, or 0.
pub(crate) fn request() -> u64 {
    // For log lines, too, which may be written while a thread ends.
    REQUEST.try_get().unwrap_or(0)
}

/// The name of who asks.
pub(crate) fn user() -> Arc<str> {
    USER.try_get().ok().flatten().unwrap_or_else(|| "anonymous".into())
}

/// What the request itself says, for comparison: it travels with the request.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) id: u64,
    pub(crate) user: Option<Arc<str>>,
    pub(crate) is_leaky: bool,
    /// What was found that another request had left.
    pub(crate) found: Arc<Found>,
}

/// On the thread of the runtime, and on the worker of the pool.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) on_runtime: OnceLock<Arc<str>>,
    pub(crate) on_worker: OnceLock<Arc<str>>,
}

impl Asked {
    pub(crate) fn new(id: u64, request: &Request) -> Self {
        let user = request.headers().get("x-user").and_then(|user| user.to_str().ok());
        let user = user.filter(|user| !user.is_empty());
        let query = request.uri().query().unwrap_or_default();
        Self {
            id,
            user: user.map(Into::into),
            is_leaky: query.split('&').any(|part| part == "leaky"),
            found: Arc::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.user.as_deref().unwrap_or("anonymous")
    }

    /// Looks whether somebody was here before, and notes who is here now.
    pub(crate) fn look(&self, found: &OnceLock<Arc<str>>) {
        let now = format!("request {} of {}", self.id, self.name());
        if let Some(left) = LEFT.replace(Some(now.into())) {
            found.get_or_init(|| left);
        }
    }

    /// Fills the slots. An anonymous request has no name to set; where slots last longer than a
    /// request, it goes by the name of whoever was there before.
    pub(crate) fn fill(&self) {
        REQUEST.set(self.id);
        if self.user.is_some() {
            USER.set(self.user.clone());
        }
    }
}

/// Fills the slots of a request.
pub(crate) fn fill(request: &Request) {
    if let Some(asked) = request.extensions().get::<Asked>() {
        asked.look(&asked.found.on_runtime);
        asked.fill();
    }
}
