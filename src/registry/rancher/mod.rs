//! What Rancher's own files say: the answers of its DNS, and those of its metadata service.

mod answers;
mod metadata;

pub use answers::{AnswersKind, RancherAnswersConfig};
