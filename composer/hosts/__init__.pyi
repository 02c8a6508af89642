from .cell_hosts import FrozenCell as FrozenCell
from .cell_hosts import Mounted as Mounted
from .cell_hosts import NamingHost as NamingHost
from .cell_hosts import RestoringHost as RestoringHost
from .residual_mlp import ResidualMLP as ResidualMLP
from .residual_mlp import StreamForm as StreamForm
from .tasks import Task as Task
from .tasks import TaskSize as TaskSize
