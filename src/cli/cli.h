#pragma once
/* The subcommands: one file each. argv[0] is the subcommand's name. They return the exit code: 0 done, 1 not done, 2 wrong command line or configuration. */

int tg_cmd_config(int argc, char **argv);
int tg_cmd_init(int argc, char **argv);
int tg_cmd_keyfile(int argc, char **argv);
int tg_cmd_serve(int argc, char **argv);
int tg_cmd_run(int argc, char **argv);
int tg_cmd_users(int argc, char **argv);
int tg_cmd_usage(int argc, char **argv);
int tg_cmd_keys(int argc, char **argv);
int tg_cmd_backup(int argc, char **argv);
int tg_cmd_restore(int argc, char **argv);
int tg_cmd_engine(int argc, char **argv);
int tg_cmd_routes(int argc, char **argv);
