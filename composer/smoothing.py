from torch.nn import functional as F


def smooth(images, first, last):
    C, B, c, h, w = images.shape
    x = images.transpose(0, 1).reshape(B, C * c, h, w)
    w1, b1 = first
    w2, b2 = last
    m = F.gelu(F.conv2d(x, w1.flatten(0, 1), b1.flatten(), padding=1, groups=C))
    y = F.conv2d(m, w2.flatten(0, 1), b2.flatten(), padding=1, groups=C)
    return (x + y).view(B, C, c, h, w).transpose(0, 1)
