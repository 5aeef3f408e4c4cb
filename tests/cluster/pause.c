/* Sleeps and reaps: the sandbox process of every pod, and process 1 of every stand-in machine. */
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void finish(int signal_number) {
    (void)signal_number;
    _exit(0);
}

static void reap(int signal_number) {
    (void)signal_number;
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
}

int main(void) {
    struct sigaction on_child = {.sa_handler = reap, .sa_flags = SA_NOCLDSTOP | SA_RESTART};
    sigaction(SIGCHLD, &on_child, NULL);
    signal(SIGINT, finish);
    signal(SIGTERM, finish);
    reap(0);
    for (;;) {
        pause();
    }
}
