//! `docs/sdks.md` names what is tested: versions, tests and files are those that there are.

use std::path::{Path, PathBuf};

use super::{client, read};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Packages and versions that `clients.sh` pins: `name==version`, `name@version`.
fn pinned() -> Vec<(String, String)> {
    let script = text(&repository("integration-tests/servers/clients.sh"));
    let values = script.lines().filter_map(|line| line.strip_suffix('"')?.split_once("=\""));
    let packages = values.filter(|(name, _)| !name.contains(' ')).flat_map(|(_, value)| value.split(' '));
    let split = |package: &str| package.split_once("==").or_else(|| package.rsplit_once('@')).map(own);
    packages.filter_map(split).collect()
}

fn own((name, version): (&str, &str)) -> (String, String) {
    (name.to_owned(), version.to_owned())
}

#[test]
fn the_page_about_sdks_says_what_is_tested() {
    let page = text(&repository("docs/sdks.md"));
    let row = |parts: [&str; 2]| {
        let rows = page.lines().filter(|line| line.starts_with('|'));
        rows.filter(|line| parts.iter().all(|part| line.contains(part))).count() == 1
    };
    let pinned = pinned();
    assert!(pinned.len() >= 8, "{pinned:?}");
    for (name, version) in pinned {
        let is_sdk = !name.contains("playwright") && !name.contains("airbyte");
        assert!(!is_sdk || row([&format!("`{name}`"), &version]), "no row has {name} and {version}");
    }
    for file in std::fs::read_dir(client("wire")).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let version = read(&path)["version"].as_str().unwrap().to_owned();
        assert!(row([&format!("`{name}`"), &version]), "no row has {name} and {version}");
    }
    for name in page.split('`').filter(|name| name.starts_with("servers::") || name.starts_with("browsers::"))
    {
        let (file, test) = name.split_once("::").unwrap();
        let source = text(&repository(&format!("integration-tests/tests/it/real_clients/{file}.rs")));
        assert!(source.contains(&format!("fn {test}()")), "there is no test {name}");
    }
}
