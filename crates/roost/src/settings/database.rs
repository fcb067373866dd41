//! The database that the settings name.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use roost_store::{Access, Columns, Store};

use crate::settings::looked_for;
use crate::settings::values::Settings;

impl Settings {
    /// The folder that a relative database path starts from.
    pub(crate) fn folder(&self) -> PathBuf {
        let parent = self.file.as_deref().and_then(Path::parent);
        parent.map_or_else(PathBuf::new, Path::to_path_buf)
    }

    /// Opens the database that the settings name.
    ///
    /// # Errors
    /// With the file and the remedy.
    pub(crate) fn open_store(&self) -> Result<Store> {
        self.open_store_at(&self.database)
    }

    /// The same of another database, with the same columns.
    ///
    /// # Errors
    /// With the file and the remedy.
    pub(crate) fn open_store_at(&self, database: &str) -> Result<Store> {
        let columns = Columns {
            user: self.user_column.clone(),
            domain: self.domain_column.clone(),
            password: self.password_column.clone(),
            password_2: self.password_column_2.clone(),
            calculate_ha1: self.core.policy.auth_db.calculate_ha1,
            use_domain: self.core.identity.use_domain,
            location: self.location_columns.clone(),
        };
        Ok(Store::open(database, &self.folder(), &self.access()?, columns)?)
    }

    /// Whether there is a database to change: one that a configuration names, or that stands here. A command in the wrong
    /// folder would make one that no server reads.
    ///
    /// # Errors
    /// Where was looked.
    pub(crate) fn require_database(&self) -> Result<()> {
        if self.file.is_some() || Store::exists(&self.database, &self.folder())? {
            return Ok(());
        }
        let folder =
            std::env::current_dir().map_or_else(|_| ".".to_string(), |path| path.display().to_string());
        let looked: Vec<_> = looked_for().iter().map(|file| file.display().to_string()).collect();
        bail!(
            "there is no configuration and no database in {folder} (looked for {} and {}): run this in the folder of \
             the server, or name its configuration with --config FILE or ROOST_CONFIG",
            looked.join(", "),
            self.database.trim_start_matches("sqlite:")
        )
    }

    /// The folder of an SQLite file, where it does not exist: a service manager may make it before the server starts.
    ///
    /// # Errors
    /// It is no database that roost can use.
    pub(crate) fn missing_folder(&self) -> Result<Option<PathBuf>> {
        Store::exists(&self.database, &self.folder())?;
        let path = self.database.strip_prefix("sqlite:").map(|path| self.folder().join(path));
        let folder = path.as_deref().and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty());
        Ok(folder.filter(|folder| !folder.is_dir()).map(Path::to_path_buf))
    }

    /// Whether the database holds any tables; opening it would make them.
    pub(crate) fn has_tables(&self) -> Result<bool> {
        Ok(Store::has_tables(&self.database, &self.folder(), &self.access()?)?)
    }

    /// Makes those of roost's tables that the database does not have; which they are.
    pub(crate) fn migrate_tables(&self) -> Result<Vec<&'static str>> {
        Ok(Store::migrate(&self.database, &self.folder(), &self.access()?)?)
    }

    /// How to get into the database, with the password that stands nowhere in the configuration.
    fn access(&self) -> Result<Access> {
        let file = |name: &str| Some(self.folder().join(name)).filter(|_| !name.is_empty());
        let password = match (std::env::var("ROOST_DATABASE_PASSWORD"), file(&self.database_password_file)) {
            (Ok(password), _) => Some(password),
            (Err(_), Some(path)) => {
                let text = std::fs::read_to_string(&path)
                    .with_context(|| format!("cannot read {} (`database_password_file`)", path.display()))?;
                Some(text.lines().next().unwrap_or("").to_string())
            }
            (Err(_), None) => None,
        };
        Ok(Access { password, tls: self.access.tls, ca_file: file(&self.database_tls_ca) })
    }
}
