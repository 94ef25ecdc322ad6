-- Takes an index away that has another definition, or that nobody finished.
DROP INDEX :"schema".:"index";
