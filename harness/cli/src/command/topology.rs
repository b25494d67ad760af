//! `bypass topology`: where things are.

use clap::Args;
use harness::{
    machine::{
        allowed::allowed_cpus,
        devices::{self, block_devices, network_interfaces},
        root::Root,
        topology,
    },
    run::{exit::Exit, output},
};

/// Arguments of `bypass topology`.
#[derive(Debug, Args)]
pub struct Topology {
    /// One JSON document on standard output.
    #[arg(long)]
    json: bool,
}

impl Topology {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<Exit> {
        let root = Root::system();
        let topology = topology::Topology::read(&root)?;
        let allowed = allowed_cpus()?;
        let blocks = block_devices(&root);
        let networks = network_interfaces(&root);
        let text = if self.json {
            let value = serde_json::json!({
                "topology": topology,
                "allowed": allowed,
                "block_devices": blocks,
                "network_interfaces": networks,
            });
            format!("{value:#}\n")
        } else {
            format!(
                "{}{}",
                topology.text(&allowed),
                devices::text(&blocks, &networks)
            )
        };
        crate::printed(output::write_stdout(&text))
    }
}
