//! What authors of destinations begin with: `millrace connectors new`. In both skeletons `NAME` stands for the
//! destination's name.

/// A destination in Rust. It is a module of our own tests too, so it compiles with this crate and passes its
/// tests.
#[must_use]
pub fn in_rust(name: &str) -> String {
    include_str!("destinations/skeleton.rs").replace("NAME", name)
}

/// A destination in YAML, which passes its tests.
#[must_use]
pub fn in_yaml(name: &str) -> String {
    include_str!("declarative/skeleton.yaml").replace("NAME", name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use millrace_connector::conformance::broken;

    use super::*;
    use crate::declarative::{Compiled, trial};

    #[test]
    fn a_name_changes_texts_alone_and_so_not_whether_it_compiles() {
        let template = in_rust("NAME");
        for line in template.lines() {
            let code = line.split('"').step_by(2).collect::<String>();
            assert!(line.trim_start().starts_with("//") || !code.contains("NAME"), "{line}");
        }
        let named = in_rust("acme");
        assert!(named.contains(r#"kind: "acme""#) && !named.contains("NAME"));
    }

    #[tokio::test]
    async fn the_one_in_yaml_passes_its_tests() {
        let file = Compiled::read("acme.yaml", &in_yaml("acme"));
        let file = Arc::new(file.unwrap_or_else(|errors| panic!("{errors:?}")));
        assert_eq!(file.spec.name, "acme");
        for verdict in trial::run(&file).await {
            assert_eq!(verdict.failure, None, "{}", verdict.test);
        }
        let promises = trial::conform(&file).await;
        assert!(broken(&promises).is_empty(), "{promises:#?}");
    }
}
