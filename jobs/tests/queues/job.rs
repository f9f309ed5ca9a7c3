//! The jobs, their slots, and what a job should find in them.

use cleanslate::task_local;
use cleanslate_jobs::Wire;
use serde::{Deserialize, Serialize};

task_local! {
    #[inherit]
    pub(crate) static TENANT: String = "nobody".to_owned();
    /// Set for every third job only.
    #[inherit]
    pub(crate) static LANG: String = "en".to_owned();
    #[inherit(with = |hops| hops + 1)]
    pub(crate) static HOPS: u32 = 100;
    /// What a job leaves behind, and should never find.
    pub(crate) static LEFT: Option<u32> = None;
}

pub(crate) fn wire() -> Wire {
    Wire::new().slot("tenant", &TENANT).slot("lang", &LANG).slot("hops", &HOPS)
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) id: u32,
}

impl Job {
    /// On its first attempt.
    pub(crate) fn panics(&self) -> bool {
        self.id % 1_000 == 7
    }

    /// On its first attempt.
    pub(crate) fn fails(&self) -> bool {
        self.id % 1_000 == 8
    }
}

/// Sets the slots of the sender for one job.
pub(crate) fn send_as(id: u32) {
    TENANT.set(tenant(id).to_owned());
    HOPS.set(0);
    if id.is_multiple_of(3) {
        LANG.set("de".to_owned());
    } else {
        LANG.take();
    }
}

fn tenant(id: u32) -> &'static str {
    if id.is_multiple_of(2) { "acme" } else { "globex" }
}

/// What a job finds: tenant, language, hops, and whether anybody has left something.
pub(crate) type Found = (String, String, u32, bool);

pub(crate) fn own_context(id: u32) -> Found {
    let lang = if id.is_multiple_of(3) { "de" } else { "en" };
    (tenant(id).to_owned(), lang.to_owned(), 1, false)
}

/// Looks at the slots, and leaves something in one.
pub(crate) fn look(id: u32) -> Found {
    let left = LEFT.replace(Some(id)).is_some();
    (TENANT.get(), LANG.get(), HOPS.get(), left)
}

/// Whether a job finds what it has found before, and what it has left.
pub(crate) fn is_unchanged(id: u32, (tenant, lang, hops, _): &Found) -> bool {
    let own = LEFT.replace(Some(id)) == Some(id);
    own && (&TENANT.get(), &LANG.get(), &HOPS.get()) == (tenant, lang, hops)
}

/// The slots that hold something.
pub(crate) fn held() -> Vec<&'static str> {
    let slots = [
        ("tenant", TENANT.is_set()),
        ("lang", LANG.is_set()),
        ("hops", HOPS.is_set()),
        ("left", LEFT.is_set()),
    ];
    slots.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name).collect()
}
