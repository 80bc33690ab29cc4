//! What the authors of connectors type.

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum PreviewCommand {
    /// The rows that events make in a warehouse.
    #[cfg(feature = "warehouse-loader")]
    Rows {
        /// The kind: postgres, redshift, snowflake, bigquery, clickhouse, databricks, mssql, synapse,
        /// s3_datalake, gcs_datalake, azure_datalake, lake.
        #[arg(short, long)]
        warehouse: String,
    },
    /// The requests that events make at a destination.
    Requests {
        /// The kind, such as webhook: `millrace connectors list` has all of them.
        #[arg(short, long)]
        destination: String,
        /// The settings as a JSON file. A line in RudderStack's form, `{"message", "destination": {"Config"}}`,
        /// brings its own.
        #[arg(short, long)]
        settings: Option<PathBuf>,
        /// Show the secrets of --settings, which are *** otherwise.
        #[arg(long)]
        show_secrets: bool,
        /// A folder with connectors of your own; without it: ./connectors, if there is one.
        #[arg(long)]
        connectors: Option<PathBuf>,
    },
    /// What a privacy policy finds and masks.
    Privacy {
        /// The policy as a JSON file, as in the config; without it everything that is known is masked.
        #[arg(short, long)]
        policy: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConnectorsCommand {
    /// List all kinds of sources, destinations and warehouses.
    List {
        /// A folder with connectors of your own; without it: ./connectors, if there is one.
        #[arg(long)]
        connectors: Option<PathBuf>,
    },
    /// Show what a kind is for, and its settings.
    Show {
        /// The kind.
        kind: String,
        /// A folder with connectors of your own; without it: ./connectors, if there is one.
        #[arg(long)]
        connectors: Option<PathBuf>,
    },
    /// Begin a destination: writes connectors/NAME.yaml, which passes its own tests.
    New {
        /// Its kind: lower-case letters, digits and _.
        name: String,
        /// Print the skeleton of a destination in Rust instead.
        #[arg(long)]
        rust: bool,
        /// The folder to write to.
        #[arg(long, default_value = "connectors")]
        connectors: PathBuf,
    },
    /// Run the tests that stand in YAML files, and the conformance kit over them; all kinds of the folder and
    /// those that are built in without a name.
    Test {
        /// A kind, or a file.
        which: Option<String>,
        /// Run again whenever the file changes: that of a kind of the folder, or one that is named.
        #[arg(long, requires = "which")]
        watch: bool,
        /// A folder with connectors of your own; without it: ./connectors, if there is one.
        #[arg(long)]
        connectors: Option<PathBuf>,
    },
    /// Print the JSON Schema of the YAML files, for editors.
    Schema,
}
